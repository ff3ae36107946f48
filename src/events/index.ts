export { EventsApiModule } from './events.module.js';
