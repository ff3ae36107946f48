/** Lets one waiter sleep until it is set or the time is up. It stays set until it is reset, so that nothing is missed between two waits. */
export class Signal {
  private isSet = false;
  private wake: (() => void) | undefined;

  set(): void {
    this.isSet = true;
    this.wake?.();
  }

  reset(): void {
    this.isSet = false;
  }

  async wait(timeoutMs: number): Promise<void> {
    if (this.isSet) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      timer = setTimeout(resolve, timeoutMs);
    });
    clearTimeout(timer);
    this.wake = undefined;
  }
}
