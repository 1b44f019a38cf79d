import type { UsageItem } from "../api.ts";
import { groupDigits } from "../decimal.ts";
import { type WindowSize, localText, windowText } from "../time.ts";
import type { Group } from "../usage.ts";
import { colorOf } from "./usage-chart.tsx";

const MOST_GROUPS = 50;
const MOST_ROWS = 200;

export function GroupTable({ groups, dimension }: { groups: readonly Group[]; dimension: string }) {
  const summed = groups.some((group) => group.total !== null);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`Usage by ${dimension}`}>
      <table class="groups">
        <thead>
          <tr>
            <th scope="col">{dimension}</th>
            <th scope="col">{summed ? "Total" : "Windows"}</th>
          </tr>
        </thead>
        <tbody>
          {groups.slice(0, MOST_GROUPS).map((group, index) => (
            <tr key={group.label}>
              <th scope="row">
                <i class="swatch" style={{ background: `var(${colorOf(index)})` }} />
                {group.label}
              </th>
              <td>{group.total === null ? group.items.length : groupDigits(group.total)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {groups.length > MOST_GROUPS && <p class="hint">The {MOST_GROUPS} largest of {groups.length}.</p>}
    </div>
  );
}

interface Props {
  windows: ReadonlyMap<string, UsageItem>;
  window: WindowSize;
  dimension: string;
}

/** Every figure of the chart, exact, for reading, copying and screen readers. */
export function WindowTable({ windows, window, dimension }: Props) {
  const rows = [...windows.values()].sort((a, b) => Date.parse(b.window_start) - Date.parse(a.window_start));
  return (
    <details>
      <summary>
        {groupDigits(String(rows.length))} {rows.length === 1 ? "window" : "windows"} as a table
      </summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="Windows">
        <table data-testid="windows">
          <thead>
            <tr>
              <th scope="col">Window (UTC)</th>
              {dimension !== "" && (
                <th scope="col" class="text">
                  {dimension}
                </th>
              )}
              <th scope="col">Value</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, MOST_ROWS).map((item) => (
              <Row key={`${item.window_start} ${item.dimensions?.[dimension] ?? ""}`} item={item} window={window} dimension={dimension} />
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > MOST_ROWS && <p class="hint">The latest {MOST_ROWS} of {groupDigits(String(rows.length))}.</p>}
    </details>
  );
}

function Row({ item, window, dimension }: { item: UsageItem; window: WindowSize; dimension: string }) {
  const at = Date.parse(item.window_start);
  return (
    <tr>
      <th scope="row">
        <time dateTime={item.window_start} title={localText(at)}>
          {windowText(at, window)}
        </time>
      </th>
      {dimension !== "" && <td class="text">{item.dimensions?.[dimension] || "(none)"}</td>}
      <td>{item.value === null ? "\u2014" : groupDigits(item.value)}</td>
    </tr>
  );
}
