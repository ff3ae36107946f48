export { type Actor, type ActorType, actorHas, systemActor } from './actor.js';
export { type RequestContext, actsOn, currentContext, runDetached, runInContext } from './request-context.js';
