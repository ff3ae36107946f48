export {
  Allow,
  Public,
  Audit,
  CurrentActor,
  Deprecated,
  LargeBody,
  MaxBody,
  UnparsedBody,
  TakesTicket,
  accessOf,
  auditPolicyOf,
  ticketRuleOf,
  type Access,
  type AuditPolicy,
} from './route-declarations.js';
export { Gatekeeper, authorize, type Holder } from './gatekeeper.js';
export { Wire, type WireProfile } from './wire.js';
export { requestIdOf } from './request-id.js';
export { WarningDto } from './warning.dto.js';
export {
  PageQueryDto,
  PaginationDto,
  notACursor,
  resolvePage,
  paginationOf,
  timeAndIdAfter,
  nameAfter,
  pageOfSorted,
  type Page,
} from './pagination.js';
export { PAGE_BYTES, shownOf, type SizedRow, withinPageBytes } from './page-bytes.js';
export { countUpTo, pageByName, pageNewestFirst, type PageOfRows } from './page-query.js';
export { expectedOf, unknownField } from './field-issues.js';
export { parseJsonBody, type BodyLimits } from './body-guard.js';
export { parseJson } from './body-reader.js';
export { KnownRoutes } from './known-routes.js';
export { LeanRoutes, type LeanRoute } from './lean-routes.js';
export { RequestObservers, type FinishedRequest } from './request-observers.js';
export { HttpModule } from './http.module.js';
export { configureHttp, createHttpAdapter, drainHttp, type ServerTimeouts } from './configure-http.js';
export { renderError } from './render-error.js';
export { clientIp } from './client-ip.js';
export { networkOf } from './client-network.js';
export { publicOrigin } from './public-origin.js';
export { InFlight } from './in-flight.js';
export { ApiDocument } from './api-document.js';
export { OpenAccess } from './open-access.js';
export { RateLimiter, type HeaderSink } from './rate-limiter.js';
export { RateLimit } from './rate-policy.js';
export { TicketQueryDto } from './ticket-query.js';
export { Streaming } from './request-timeout.js';
export { assertVersion, IfMatch, versionETag } from './etag.js';
export { NotIdempotent, OwnIdempotencyField } from './idempotency.js';
export { Deletions } from './deletions.js';
export { nearestNames, nearestWord } from './nearest-word.js';
