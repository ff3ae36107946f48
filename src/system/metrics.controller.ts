import { Controller, Get, Req, Res } from '@nestjs/common';
import {
  ApiForbiddenResponse,
  ApiOkResponse,
  ApiOperation,
  ApiProduces,
  ApiTags,
  ApiUnauthorizedResponse,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Settings } from '../platform/config/index.js';
import { Audit, OpenAccess, Public, RateLimit, Wire } from '../platform/http/index.js';
import { Metrics } from '../platform/observability/index.js';
import { SystemSettings } from './system.settings.js';

/** For this long, in milliseconds, one rendering serves all who ask. */
const FRESH_MS = 1000;

type Rendered = ReturnType<Metrics['render']>;

/** Prometheus metrics of this process. */
@ApiTags('system')
@Wire('raw')
@RateLimit('none')
@Audit('minute')
@Controller()
export class MetricsController {
  private readonly rendered = new Map<boolean, { at: number; result: Rendered }>();

  constructor(
    private readonly metrics: Metrics,
    private readonly access: OpenAccess,
    private readonly server: Settings,
    private readonly settings: SystemSettings,
  ) {}

  @Get('metrics')
  @Public()
  @ApiOperation({
    summary: 'Metrics for Prometheus',
    description:
      'Text format 0.0.4, or OpenMetrics when `Accept` asks for it. Needs the scope `metrics:read` unless `NEXUS_METRICS_PUBLIC` is on; not set, it is on while the server listens on a loopback address only.',
    operationId: 'prometheusMetrics',
  })
  @ApiProduces('text/plain', 'application/openmetrics-text')
  @ApiOkResponse({ schema: { type: 'string', example: 'nexus_http_requests_in_flight 1' } })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  async scrape(@Req() request: Request, @Res() response: Response): Promise<void> {
    await this.access.require(request, this.settings.metricsPublic ?? this.server.loopbackOnly, 'metrics:read');
    const openMetrics = (request.get('accept') ?? '').includes('application/openmetrics-text');
    const { contentType, text } = await this.render(openMetrics);
    response.set('Content-Type', contentType).send(text);
  }
  private render(openMetrics: boolean): Rendered {
    const last = this.rendered.get(openMetrics);
    if (last && performance.now() - last.at < FRESH_MS) return last.result;
    const result = this.metrics.render(openMetrics);
    this.rendered.set(openMetrics, { at: performance.now(), result });
    return result;
  }
}
