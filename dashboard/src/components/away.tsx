import type { Problem } from "../api.ts";

export function Away({ problem }: { problem: Problem }) {
  return (
    <section class="panel">
      <p class="error" role="alert">
        {problem.message}
      </p>
    </section>
  );
}
