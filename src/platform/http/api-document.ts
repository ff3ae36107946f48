import { Injectable } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { stringify } from 'yaml';
import { Settings, VERSION } from '../config/index.js';
import { Features } from '../features/index.js';
import { apiTags } from './api-tags.js';
import { completeDocument } from './complete-document.js';

const DESCRIPTION = `Nexus sees, decides, acts and proves: telemetry comes in, rules and people decide, commands run on agents, and the
audit trail shows who did what.

**Authentication.** Send an API key or an access token as \`Authorization: Bearer …\`, or an API key as \`X-API-Key\`. Each operation names the
scopes it needs in \`x-required-scopes\`; one of them is enough.

**Errors** all have one shape (schema \`Error\`). A method that a path does not take is answered 405 with \`Allow\`, a WebSocket path
that is asked without an upgrade 426. Answers 429 and 5xx may be tried again: wait for \`Retry-After\`, else 1, 2, then 4 seconds.

**Limits.** Every limited answer carries \`X-RateLimit-Limit\`, \`-Remaining\`, \`-Reset\` (Unix seconds) and \`-Window\` (seconds) of the
tightest limit that the request counts in.

**Pages** of large items end after about 4 MB, before \`limit\`: \`has_more\` says so, and \`next_cursor\` goes on.

**Safe repeats.** A POST with an \`Idempotency-Key\` is done once; the same key with the same body within 24 hours gets the stored answer. A
repeated DELETE is answered as the first one. A request
that was answered 504 is rolled back unless its commit was just being made: repeat it with its \`Idempotency-Key\`.`;

/** The OpenAPI 3.1 document of the running server, built at the first request for it. */
@Injectable()
export class ApiDocument {
  private app: NestExpressApplication | undefined;
  private document: OpenAPIObject | undefined;
  private text: { json: string; yaml: string } | undefined;

  constructor(
    private readonly settings: Settings,
    private readonly features: Features,
  ) {}

  /** Called once, when the pipeline is configured. */
  attach(app: NestExpressApplication): void {
    this.app = app;
  }

  get(): OpenAPIObject {
    if (this.document) return this.document;
    if (!this.app) throw new Error('The document needs a configured application');
    const builder = new DocumentBuilder()
      .setOpenAPIVersion('3.1.0')
      .setTitle('Nexus API')
      .setVersion(VERSION)
      .setDescription(DESCRIPTION)
      .setLicense('Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0')
      .addServer('/', 'This server')
      .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'An access token or any API key' }, 'bearer')
      .addApiKey({ type: 'apiKey', in: 'header', name: 'X-API-Key', description: 'An API key' }, 'apiKey')
      .addApiKey(
        {
          type: 'apiKey',
          in: 'query',
          name: 'ticket',
          description: 'A ticket of `POST /stream/tickets`, good for one stream',
        },
        'ticket',
      );
    const document = SwaggerModule.createDocument(this.app, builder.build());
    this.document = withPrefix(
      completeDocument(document, {
        prefix: this.settings.apiPrefix,
        tags: this.features.of(apiTags).flatMap((tags) => Object.entries(tags)),
      }),
      this.settings,
    );
    return this.document;
  }

  json(): string {
    return this.rendered().json;
  }

  yaml(): string {
    return this.rendered().yaml;
  }

  private rendered(): { json: string; yaml: string } {
    this.text ??= {
      json: JSON.stringify(this.get(), null, 2),
      yaml: stringify(this.get(), { aliasDuplicateObjects: false }),
    };
    return this.text;
  }
}

/** Descriptions and examples are written with the default prefix; the paths themselves have the one that is set. */
function withPrefix(document: OpenAPIObject, { apiPrefix }: Settings): OpenAPIObject {
  const text = JSON.stringify(document, (_key, value: unknown) =>
    typeof value === 'string' ? value.replaceAll('/api/v1/', `/${apiPrefix}/`) : value,
  );
  return JSON.parse(text) as OpenAPIObject;
}
