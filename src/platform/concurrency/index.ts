export { Semaphore } from './semaphore.js';
export { Signal } from './signal.js';
