import { RateLimitSetting } from '../platform/config/index.js';

export class EventsApiSettings {
  static readonly title = 'Events';

  @RateLimitSetting('events', 'Limit of emitted events', { alone: true }) rateLimit = '1000/60';
}
