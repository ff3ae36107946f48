import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import type { Request } from 'express';
import type { Observable } from 'rxjs';
import { AppError } from '../platform/errors/index.js';

/** Keys that no body may hold. */
const FORBIDDEN = new Set(['tag.__proto__', 'tag.constructor', 'tag.prototype']);

/**
 * Collects the query parameters `tag.<name>=<value>` into `tags`, where the DTO of the query expects them; every other
 * name stays, so unknown ones are still refused.
 */
@Injectable()
export class TagFilters implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<Request>();
    const query: Record<string, unknown> = {};
    const tags: Record<string, string> = {};
    for (const [name, value] of Object.entries(request.query)) {
      if (name === 'tags') throw refusal(name, 'property tags should not exist');
      if (!name.startsWith('tag.')) query[name] = value;
      else if (FORBIDDEN.has(name)) throw refusal(name, 'is no name that a tag can have');
      else if (typeof value !== 'string' || name.length === 4) {
        throw refusal(name, 'must be given once, with a tag name');
      } else tags[name.slice(4)] = value;
    }
    if (Object.keys(tags).length > 0) query.tags = tags;
    // A getter of Express otherwise.
    Object.defineProperty(request, 'query', { value: query, configurable: true });
    return next.handle();
  }
}

function refusal(field: string, issue: string): AppError {
  return AppError.validation({ field, issue, location: 'query' });
}
