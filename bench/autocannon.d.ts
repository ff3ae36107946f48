/** The part of autocannon that the benchmarks use. */
declare module 'autocannon' {
  interface Result {
    '2xx': number;
    non2xx: number;
    errors: number;
    /** Seconds. */
    duration: number;
    /** Milliseconds. */
    latency: { p50: number; p99: number };
  }
  function autocannon(options: {
    url: string;
    connections: number;
    duration: number;
    method: string;
    headers: Record<string, string>;
    requests: { method: string; body: string }[];
  }): Promise<Result>;
  namespace autocannon {
    export type { Result };
  }
  export default autocannon;
}
