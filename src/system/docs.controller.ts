import { Controller, Get, Param, Req, Res } from '@nestjs/common';
import {
  ApiExcludeEndpoint,
  ApiFoundResponse,
  ApiForbiddenResponse,
  ApiNotFoundResponse,
  ApiOkResponse,
  ApiOperation,
  ApiProduces,
  ApiTags,
  ApiUnauthorizedResponse,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Settings } from '../platform/config/index.js';
import { AppError } from '../platform/errors/index.js';
import { ApiDocument, Audit, OpenAccess, Public, RateLimit, Wire } from '../platform/http/index.js';
import { type DocsAsset, docsAsset, redocPage, swaggerPage } from './docs-pages.js';
import { RootDto } from './system.dto.js';

/** Pages around the OpenAPI document; every asset comes from this server, so they work without the internet. */
@ApiTags('system')
@Wire('raw')
@RateLimit('none')
@Audit('minute')
@Controller()
export class DocsController {
  constructor(
    private readonly document: ApiDocument,
    private readonly access: OpenAccess,
    private readonly settings: Settings,
  ) {}

  @Get('/')
  @Public()
  @ApiOperation({ summary: 'Where to go on from here', operationId: 'root' })
  @ApiOkResponse({ type: RootDto, description: 'Where the documentation needs a credential or is switched off.' })
  @ApiFoundResponse({ description: 'To the documentation.' })
  root(@Res() response: Response): void {
    const { apiPrefix, docsEnabled, docsPublic } = this.settings;
    if (docsEnabled && docsPublic) {
      response.redirect(302, '/docs');
      return;
    }
    const docs = docsEnabled ? { docs: '/docs' } : {};
    const root: RootDto = { name: 'Nexus', health: '/health', api: `/${apiPrefix}`, ...docs };
    response.json(root);
  }

  @Get('openapi.json')
  @Public()
  @ApiOperation({ summary: 'This document as JSON', operationId: 'openapiJson' })
  @ApiOkResponse({ schema: { type: 'object', additionalProperties: true, example: { openapi: '3.1.0' } } })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  @ApiNotFoundResponse()
  async json(@Req() request: Request, @Res() response: Response): Promise<void> {
    await this.check(request);
    response.type('application/json').send(this.document.json());
  }

  @Get('openapi.yaml')
  @Public()
  @ApiOperation({ summary: 'This document as YAML', operationId: 'openapiYaml' })
  @ApiProduces('application/yaml')
  @ApiOkResponse({ schema: { type: 'string', example: 'openapi: 3.1.0' } })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  @ApiNotFoundResponse()
  async yaml(@Req() request: Request, @Res() response: Response): Promise<void> {
    await this.check(request);
    response.set('Content-Type', 'application/yaml; charset=utf-8').send(this.document.yaml());
  }

  @Get('docs')
  @Public()
  @ApiOperation({ summary: 'Swagger UI', operationId: 'swaggerUi' })
  @ApiProduces('text/html')
  @ApiOkResponse({ schema: { type: 'string', example: '<!doctype html>' } })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  @ApiNotFoundResponse()
  async swagger(@Req() request: Request, @Res() response: Response): Promise<void> {
    await this.check(request);
    sendPage(response, swaggerPage());
  }

  @Get('redoc')
  @Public()
  @ApiOperation({ summary: 'ReDoc', operationId: 'redoc' })
  @ApiProduces('text/html')
  @ApiOkResponse({ schema: { type: 'string', example: '<!doctype html>' } })
  @ApiUnauthorizedResponse()
  @ApiForbiddenResponse()
  @ApiNotFoundResponse()
  async redoc(@Req() request: Request, @Res() response: Response): Promise<void> {
    await this.check(request);
    sendPage(response, redocPage());
  }

  @Get(['docs/:file', 'redoc/:file'])
  @Public()
  @ApiExcludeEndpoint()
  async asset(@Param('file') file: string, @Res() response: Response): Promise<void> {
    this.assertEnabled();
    const asset: DocsAsset = await docsAsset(file);
    response.set('Cache-Control', 'public, max-age=86400').type(asset.type).send(asset.body);
  }

  private check(request: Request): Promise<void> {
    this.assertEnabled();
    return this.access.require(request, this.settings.docsPublic, 'system:read');
  }

  private assertEnabled(): void {
    if (!this.settings.docsEnabled) {
      throw new AppError('not_found', 'The documents of this server are switched off (NEXUS_DOCS_ENABLED)');
    }
  }
}

/** The two viewers write inline styles and work in blob workers; everything else stays as strict as elsewhere. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
  "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

function sendPage(response: Response, html: string): void {
  response.set('Content-Security-Policy', PAGE_POLICY).type('text/html').send(html);
}
