import type { DueDelivery } from './deliveries.queries.js';

export interface LaneLimits {
  /** Most concurrent requests to webhooks that are not suspects. */
  total: number;
  /** Most concurrent requests to all webhooks. They exceed `total` plus `suspects` only when many webhooks become suspects at once. */
  most: number;
  /** Most concurrent requests to one webhook whose last attempt succeeded. */
  perWebhook: number;
  /** Most concurrent requests to all suspects together: webhooks whose last attempt failed or took long. */
  suspects: number;
}

interface Lane {
  waiting: string[];
  active: number;
  /** `fresh`: no attempt has ended yet. */
  standing: 'good' | 'fresh' | 'suspect';
  pausedUntil: number;
}

const FRESH_AT_ONCE = 2;
const MAX_WAITING = 1000;
const ENOUGH_WAITING = 100;
/** Fewer for a suspect, which gets one request at a time. */
const ENOUGH_FOR_SUSPECT = 10;
/** With more lanes than this, those of idle webhooks are removed. */
const MAX_LANES = 5000;

/**
 * Decides which delivery is sent next. Each webhook has a lane. Webhooks that fail or are slow (suspects) get one slot each out of a
 * small share, so that they do not delay the others, however many they are. A slow request makes its webhook a suspect before it ends,
 * so that this holds from the start. This class uses neither the network nor the database.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  private readonly known = new Map<string, string>();
  private active = 0;
  private activeSuspects = 0;

  constructor(
    private readonly limits: LaneLimits,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Adds a delivery to the lane of its webhook. When the lane is full, the next sweep offers it again. */
  offer({ id, webhookId, failing }: DueDelivery): void {
    if (this.known.has(id)) return;
    const lane = this.lanes.get(webhookId) ?? newLane(failing);
    if (lane.pausedUntil > this.now() || lane.waiting.length >= MAX_WAITING) return;
    this.lanes.set(webhookId, lane);
    lane.waiting.push(id);
    this.known.set(id, webhookId);
  }

  /** Takes deliveries that may be sent now, one of each lane in turn. Each must be given back with {@link release}. */
  take(most: number): string[] {
    const taken: string[] = [];
    for (const [webhookId, lane] of this.lanes) {
      if (taken.length >= most || this.active >= this.limits.most) break;
      if (lane.waiting.length === 0 || lane.active >= this.limitOf(lane)) continue;
      taken.push(lane.waiting.shift() as string);
      this.occupy(lane, 1);
      // Moved to the end, where this loop reaches the lane again.
      this.lanes.delete(webhookId);
      this.lanes.set(webhookId, lane);
    }
    return taken;
  }

  /** Makes the webhook of a slow request a suspect, so that its requests no longer use the slots of the others. */
  late(id: string): void {
    const lane = this.lanes.get(this.known.get(id) ?? '');
    if (lane) this.judge(lane, 'suspect');
  }

  /** Frees the slot of a delivery. Without a verdict nothing was sent. */
  release(id: string, verdict?: 'good' | 'suspect' | 'left_alone', pauseMs = 0): void {
    const webhookId = this.known.get(id);
    const lane = webhookId === undefined ? undefined : this.lanes.get(webhookId);
    this.known.delete(id);
    if (webhookId === undefined || !lane) return;
    this.occupy(lane, -1);
    if (verdict === 'left_alone') {
      lane.pausedUntil = this.now() + pauseMs;
      for (const waiting of lane.waiting.splice(0)) this.known.delete(waiting);
    } else if (verdict) this.judge(lane, verdict);
    if (this.lanes.size > MAX_LANES && lane.active === 0 && lane.waiting.length === 0) this.lanes.delete(webhookId);
  }

  /** Webhooks that have enough deliveries waiting or are paused. */
  unready(): string[] {
    return [...this.lanes]
      .filter(([, lane]) => lane.waiting.length >= enoughFor(lane) || lane.pausedUntil > this.now())
      .map(([webhookId]) => webhookId);
  }

  get busy(): boolean {
    return this.active > 0;
  }

  private limitOf(lane: Lane): number {
    if (lane.standing === 'suspect') return this.activeSuspects < this.limits.suspects ? 1 : 0;
    if (this.active - this.activeSuspects >= this.limits.total) return 0;
    return lane.standing === 'good' ? this.limits.perWebhook : Math.min(FRESH_AT_ONCE, this.limits.perWebhook);
  }

  private judge(lane: Lane, standing: 'good' | 'suspect'): void {
    if (lane.standing === standing) return;
    if (lane.standing === 'suspect') this.activeSuspects -= lane.active;
    if (standing === 'suspect') this.activeSuspects += lane.active;
    lane.standing = standing;
  }

  private occupy(lane: Lane, change: 1 | -1): void {
    lane.active += change;
    this.active += change;
    if (lane.standing === 'suspect') this.activeSuspects += change;
  }
}

function enoughFor({ standing }: Lane): number {
  return standing === 'suspect' ? ENOUGH_FOR_SUSPECT : ENOUGH_WAITING;
}

function newLane(failing: boolean): Lane {
  return { waiting: [], active: 0, standing: failing ? 'suspect' : 'fresh', pausedUntil: 0 };
}
