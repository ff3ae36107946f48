export { EventsApiModule } from './events.module.js';
export { isReserved } from './reserved-events.js';
