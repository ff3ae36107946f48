/**
 * The agent link: what an agent and Nexus say to each other over one outbound WebSocket.
 *
 * - URL `agents/link` under the prefix of the API, subprotocol `nexus.agent.v1`, header `Authorization: Bearer nexus_agent_...`.
 * - Every frame is one JSON text message with a `type`, at most {@link MAX_FRAME_BYTES} bytes of UTF-8.
 * - The agent speaks first (`hello`), the server answers `welcome`; nothing else is valid before that.
 * - The server pings (RFC 6455) every 25 s; a side that hears nothing for 60 s closes the link.
 * - Whatever must not be lost is repeated after a reconnect until the other side acknowledges it:
 *   telemetry batches (`telemetry_ack`), output (`output_ack`), results (`result_ack`).
 */
/** Below the URL of the API, which has its prefix (`https://nexus.example/api/v1`). */
export const LINK_PATH = 'agents/link';
export const LINK_SUBPROTOCOL = 'nexus.agent.v1';
export const PROTOCOL_VERSION = 2;
export const MAX_FRAME_BYTES = 256 * 1024;

/** Close codes beside those of RFC 6455. 1008 = not authenticated or revoked: do not retry with the same key soon. */
export const CLOSE_REPLACED = 4001;
export const CLOSE_PROTOCOL_ERROR = 4002;

/** The id of a command as the API and people write it; on the link it goes bare. */
export function shownCommandId(id: string): string {
  return `cmd_${id}`;
}

/** One telemetry event as the agent sends it. `event_id` (UUID v4) and `timestamp` (ISO 8601 UTC, ms) make a resend harmless. */
export interface TelemetryEventFrame {
  event_id: string;
  event_type: string;
  source: string;
  timestamp: string;
  data: Record<string, unknown>;
  metadata?: Record<string, unknown>;
}

/** A command type this agent is willing to execute. */
export interface CommandTypeAdvert {
  type: string;
  description?: string;
  /** Seconds; the agent's own upper limit for this type. */
  timeout_seconds?: number;
  /** True when running it twice does no harm. */
  idempotent?: boolean;
}

export type AgentFrame =
  | {
      type: 'hello';
      protocol: number;
      agent_version: string;
      /** New at each start of the agent process. */
      boot_id: string;
      hostname: string;
      platform: string;
      labels: Record<string, string>;
      capabilities: string[];
      commands: CommandTypeAdvert[];
      /** Ids of commands in the agent's ledger whose result the server has not acknowledged yet. */
      unfinished: string[];
    }
  | { type: 'heartbeat'; load_percent: number; running: number; spooled_batches: number }
  | { type: 'telemetry'; batch_id: string; events: TelemetryEventFrame[] }
  /** The command is in the agent's durable ledger: from here on it runs at most once, whatever is killed. */
  | { type: 'command_ack'; command_id: string }
  | { type: 'command_started'; command_id: string; started_at: string }
  /** Output bytes `[offset, offset + length)` of the command's output, stdout and stderr in order of arrival. */
  | {
      type: 'command_output';
      command_id: string;
      stream: 'stdout' | 'stderr';
      offset: number;
      encoding: 'utf8' | 'base64';
      data: string;
    }
  | {
      type: 'command_result';
      command_id: string;
      /** `failed` with `error.code` `UNKNOWN_OUTCOME` when the agent died while the command ran. */
      status: 'completed' | 'failed' | 'cancelled' | 'timed_out';
      message: string;
      exit_code: number | null;
      signal: string | null;
      started_at: string | null;
      completed_at: string;
      duration_ms: number;
      /** Bytes of output sent in all; the server has the whole output once it holds that many. */
      output_bytes: number;
      output_truncated: boolean;
      /** Structured result of a built-in, JSON, at most 64 KiB. */
      data?: unknown;
      error?: { code: string; message: string };
    }
  /**
   * The command was refused before it entered the ledger, and will not run. Codes: `TYPE_NOT_ALLOWED`, `INVALID_PARAMETERS`
   * (the message names the parameter), `BAD_SIGNATURE`, `WRONG_AGENT`, `EXPIRED`, `BUSY` (too many wait), `STORAGE_FAILED`.
   */
  | { type: 'command_refused'; command_id: string; code: string; message: string };

/** The signed content of a `command` frame, as JSON text in `envelope`. */
export interface CommandEnvelope {
  command_id: string;
  agent_id: string;
  command_type: string;
  parameters: Record<string, unknown>;
  timeout_seconds: number;
  /** ISO 8601; the agent refuses to start the command after it. */
  expires_at: string;
  issued_at: string;
  nonce: string;
  /** 1 (low), 3 (normal), 6 (high) or 9 (critical): what waits on the agent starts by it. */
  priority?: number;
  /** ISO 8601; each minute since then makes the command one step more urgent. */
  created_at?: string;
}

export type ServerFrame =
  | {
      type: 'welcome';
      agent_id: string;
      name: string;
      server_time: string;
      heartbeat_interval_ms: number;
      /** For each id of `unfinished`: the next output byte wanted; -1 when the server knows the end and wants nothing more. */
      resume: { command_id: string; next_offset: number }[];
      /** Public key of this agent's commands, as in {@link JoinResponse}: an agent that trusts another one refuses them. */
      signing_key: string;
    }
  /** `signature` = hex Ed25519 signature of the exact UTF-8 bytes of `envelope`, by the private key to the agent's `signing_key`. */
  | { type: 'command'; envelope: string; signature: string }
  | { type: 'cancel'; command_id: string; reason: string }
  /** Sent after the commit. `rejected` items will never be accepted: drop them. */
  | {
      type: 'telemetry_ack';
      batch_id: string;
      accepted: number;
      duplicates: number;
      rejected: { index: number; issue: string }[];
      /** Stored, and probably not meant as they are. */
      warnings?: { index: number; issue: string }[];
    }
  /** The batch was not stored (overload): send it again after `retry_after_ms`. */
  | { type: 'telemetry_nack'; batch_id: string; retry_after_ms: number }
  /** All bytes below `next_offset` are stored. */
  | { type: 'output_ack'; command_id: string; next_offset: number }
  | { type: 'result_ack'; command_id: string }
  | { type: 'error'; code: string; message: string }
  /** The server is about to close (drain): reconnect after about `retry_after_ms`. */
  | { type: 'bye'; reason: string; retry_after_ms: number };

/** Body of `POST ai/agents/join` (public; the one-time token is the credential). */
export interface JoinRequest {
  token: string;
  /**
   * Random text of this agent, secret like the token. An agent that repeats its join with the same nonce, because the answer
   * was lost, gets new keys for the agent that the first join made, until that agent has been heard of.
   */
  nonce?: string;
  agent_name: string;
  agent_type: string;
  capabilities: string[];
  version: string;
  labels: Record<string, string>;
}

export interface JoinResponse {
  agent_id: string;
  agent_name: string;
  api_key: string;
  /** Public Ed25519 key (32 bytes, base64url) that checks the commands for this agent; the private one never leaves Nexus. */
  signing_key: string;
  /** Path of the agent link on the server, for programs that do not derive it from the URL of the API as this agent does. */
  link_path?: string;
}
