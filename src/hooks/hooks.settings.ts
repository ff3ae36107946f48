import { RateLimitSetting } from '../platform/config/index.js';

export class HookSettings {
  static readonly title = 'Inbound hooks';

  @RateLimitSetting('hooks', 'Limit of the signed calls of one inbound hook', { alone: true }) rateLimit = '600/60';
}
