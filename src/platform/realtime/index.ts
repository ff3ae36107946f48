export { Bus } from './bus.js';
export { CredentialWatch, type CredentialHolder } from './credential-watch.js';
export { RealtimeModule } from './realtime.module.js';
export { SocketAdapter, type SocketOptions } from './socket-adapter.js';
export { Socket, CLOSE_GOING_AWAY, CLOSE_POLICY, CLOSE_OVERLOADED } from './socket.js';
export { SocketTickets } from './socket-tickets.js';
export { StreamPlaces } from './stream-places.js';
