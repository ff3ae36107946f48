import { Injectable, type OnApplicationBootstrap, RequestMethod } from '@nestjs/common';
import { DiscoveryService, MetadataScanner, Reflector } from '@nestjs/core';
import { LoadedSettings } from '../config/index.js';
import { rateCategoryOf } from './rate-policy.js';
import { accessOf } from './route-declarations.js';

/**
 * Deny by default: the server does not start when a route declares neither who may call it nor that everyone may, or names a rate
 * limit that no setting declares, since its requests would not be counted.
 */
@Injectable()
export class RouteCheck implements OnApplicationBootstrap {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly reflector: Reflector,
    private readonly settings: LoadedSettings,
  ) {}

  onApplicationBootstrap(): void {
    const open: string[] = [];
    const uncounted: string[] = [];
    const categories = new Set(['none', ...this.settings.rateLimits().map(({ category }) => category)]);
    for (const { instance, metatype } of this.discovery.getControllers()) {
      if (!instance || !metatype) continue;
      const prototype = Object.getPrototypeOf(instance) as Record<string, unknown>;
      for (const name of this.scanner.getAllMethodNames(prototype)) {
        const handler = prototype[name] as () => unknown;
        const method = Reflect.getMetadata('method', handler) as RequestMethod | undefined;
        if (method === undefined) continue;
        const route = `${metatype.name}.${name}`;
        if (!accessOf(this.reflector, [handler, metatype])) open.push(route);
        const category = rateCategoryOf(this.reflector, [handler, metatype]);
        if (category !== undefined && !categories.has(category)) uncounted.push(route);
      }
    }
    if (open.length > 0) throw new Error(`Routes without @Allow or @Public: ${open.join(', ')}`);
    if (uncounted.length > 0) {
      throw new Error(`Routes with a @RateLimit that no setting declares: ${uncounted.join(', ')}`);
    }
  }
}
