import type { Outcome } from './executor.js';
import type { LedgerEntry, ResultFrame } from './ledger.js';
import type { OutputLog } from './output-log.js';
import type { AgentFrame, ServerFrame } from './protocol.js';

type Resume = Extract<ServerFrame, { type: 'welcome' }>['resume'];

/** The way frames leave; `writable` is false while the server reads too slowly. */
export interface Outlet {
  send(frame: AgentFrame): boolean;
  readonly open: boolean;
  readonly writable: boolean;
}

/** Bytes of one command's output on their way at the same time. */
const WINDOW_BYTES = 512 * 1024;
/** Output that follows so soon after a frame waits for more. */
const GATHER_MS = 20;
const LOOK_MS = 5000;
const RESEND_MS = 20_000;

interface Report {
  entry: LedgerEntry;
  output: OutputLog;
  sent: number;
  acked: number;
  /** Nexus wants nothing more of this command, or has everything. */
  unwanted: boolean;
  resultSent: boolean;
  /** When something was sent or acknowledged last. */
  movedAt: number;
  gathering?: NodeJS.Timeout;
}

/**
 * Tells Nexus how each command goes, until it knows the end: repeats after a new link, and after a while on one that stands,
 * whatever was not acknowledged.
 */
export class CommandReports {
  private readonly reports = new Map<string, Report>();
  private readonly timer: NodeJS.Timeout;

  /** @param settled called once Nexus knows the end of a finished command */
  constructor(
    private readonly outlet: Outlet,
    private readonly settled: (id: string) => void,
  ) {
    this.timer = setInterval(() => this.repeat(), LOOK_MS);
  }

  /** Starts to report on a command that is in the ledger for good. */
  add(entry: LedgerEntry, output: OutputLog): void {
    const report = { entry, output, sent: 0, acked: 0, unwanted: false, resultSent: false, movedAt: Date.now() };
    this.reports.set(entry.id, report);
    this.tellState(report);
    this.pump(report);
  }

  /** True when Nexus has said that it wants nothing more of a command. */
  isUnwanted(id: string): boolean {
    return this.reports.get(id)?.unwanted ?? false;
  }

  has(id: string): boolean {
    return this.reports.has(id);
  }

  /** Tells again what is known: Nexus asked twice. */
  again(id: string): void {
    const report = this.reports.get(id);
    if (!report) {
      this.outlet.send({ type: 'command_ack', command_id: id });
      return;
    }
    this.tellState(report);
    report.resultSent = false;
    this.pump(report);
  }

  started(id: string): void {
    const report = this.reports.get(id);
    if (report) this.tellStart(report);
  }

  /** New output is in the log. */
  printed(id: string): void {
    const report = this.reports.get(id);
    if (!report || report.gathering) return;
    report.gathering = setTimeout(() => {
      report.gathering = undefined;
      if (report.sent < report.output.length) this.printed(id);
    }, GATHER_MS);
    this.pump(report);
  }

  finished(id: string): void {
    const report = this.reports.get(id);
    if (!report) return;
    clearTimeout(report.gathering);
    if (report.unwanted) this.settle(report);
    else this.pump(report);
    report.output.close();
  }

  outputAcked(id: string, nextOffset: number): void {
    const report = this.reports.get(id);
    if (!report || nextOffset <= report.acked) return;
    report.acked = Math.min(nextOffset, report.output.length);
    report.sent = Math.max(report.sent, report.acked);
    report.movedAt = Date.now();
    this.pump(report);
  }

  resultAcked(id: string): void {
    const report = this.reports.get(id);
    if (report?.entry.result) this.settle(report);
  }

  /** A new link: everything that was not acknowledged is told again. */
  resume(wanted: Resume): void {
    const offsets = new Map(wanted.map(({ command_id, next_offset }) => [command_id, next_offset]));
    for (const report of [...this.reports.values()]) {
      const offset = offsets.get(report.entry.id) ?? report.acked;
      report.resultSent = false;
      if (offset < 0) {
        report.unwanted = true;
        if (report.entry.result) this.settle(report);
        continue;
      }
      report.acked = report.sent = Math.min(offset, report.output.length);
      this.tellState(report);
      this.pump(report);
    }
  }

  /** The link takes more again. */
  writable(): void {
    for (const report of this.reports.values()) this.pump(report);
  }

  /** True while Nexus does not know everything about commands that are over. */
  get pending(): boolean {
    for (const { entry } of this.reports.values()) if (entry.result) return true;
    return false;
  }

  close(): void {
    clearInterval(this.timer);
    for (const { gathering, output } of this.reports.values()) {
      clearTimeout(gathering);
      output.close();
    }
  }

  private tellState(report: Report): void {
    this.outlet.send({ type: 'command_ack', command_id: report.entry.id });
    if (report.entry.startedAt) this.tellStart(report);
  }

  private tellStart({ entry }: Report): void {
    const started_at = entry.startedAt ?? new Date().toISOString();
    this.outlet.send({ type: 'command_started', command_id: entry.id, started_at });
  }

  /** Sends output as far as the window goes, then the result. */
  private pump(report: Report): void {
    const { entry, output } = report;
    if (report.unwanted) return;
    while (report.sent - report.acked < WINDOW_BYTES && this.outlet.writable) {
      const piece = output.pieceAt(report.sent, !entry.result);
      if (!piece) break;
      const { length, ...fields } = piece;
      if (!this.outlet.send({ type: 'command_output', command_id: entry.id, ...fields })) return;
      report.sent += length;
      report.movedAt = Date.now();
    }
    if (entry.result && entry.result.output_bytes > output.length) {
      // Somebody took its file away: what is left is all there is.
      entry.result = { ...entry.result, output_bytes: output.length, output_truncated: true };
    }
    if (entry.result && !report.resultSent && report.sent >= entry.result.output_bytes) {
      report.resultSent = this.outlet.send(entry.result);
      report.movedAt = Date.now();
      output.close();
    }
  }

  private settle(report: Report): void {
    const { id } = report.entry;
    clearTimeout(report.gathering);
    this.reports.delete(id);
    report.output.remove();
    this.settled(id);
  }

  private repeat(): void {
    const old = Date.now() - RESEND_MS;
    for (const report of this.reports.values()) {
      if (report.movedAt > old || (report.sent === report.acked && !report.resultSent)) continue;
      report.sent = report.acked;
      report.resultSent = false;
      report.movedAt = Date.now();
      this.pump(report);
    }
  }
}

/** The result frame of a command that ended now. */
export function resultOf(entry: LedgerEntry, output: OutputLog, outcome: Outcome): ResultFrame {
  const now = new Date();
  return {
    type: 'command_result',
    command_id: entry.id,
    ...outcome,
    started_at: entry.startedAt ?? null,
    completed_at: now.toISOString(),
    duration_ms: entry.startedAt ? Math.max(0, now.getTime() - Date.parse(entry.startedAt)) : 0,
    output_bytes: output.length,
    output_truncated: output.truncated,
  };
}
