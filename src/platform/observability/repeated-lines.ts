const WINDOW_MS = 60_000;
/** Lines of one kind that are written in a window. */
const MAX_LINES = 5;
const MAX_KINDS = 1000;

interface Kind {
  since: number;
  lines: number;
  left: number;
}

/** Tells which lines of the log only repeat what it already says: while the database is away each request and each job would write one. */
export class RepeatedLines {
  private readonly kinds = new Map<string, Kind>();

  /** @returns null for a line that is left out, else how many of its kind were left out before it */
  admit(kind: string, now = performance.now(), most = MAX_LINES): number | null {
    const known = this.kinds.get(kind);
    if (known && now - known.since < WINDOW_MS) {
      if (known.lines < most) {
        known.lines++;
        return 0;
      }
      known.left++;
      return null;
    }
    if (!known && this.kinds.size >= MAX_KINDS) this.kinds.clear();
    this.kinds.set(kind, { since: now, lines: 1, left: 0 });
    return known?.left ?? 0;
  }
}
