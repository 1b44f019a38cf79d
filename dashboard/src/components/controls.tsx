import { useId } from "preact/hooks";

import type { Meter } from "../api.ts";
import { type Choice, rangeSeconds, withRange } from "../choice.ts";
import { RANGES, type RangeId, type WindowSize, utcField, windowFits } from "../time.ts";
import { CustomerPicker } from "./customer-picker.tsx";

interface Props {
  apiKey: string;
  meters: readonly Meter[];
  meter: Meter;
  choice: Choice;
  onChange: (choice: Choice) => void;
}

export function Controls({ apiKey, meters, meter, choice, onChange }: Props) {
  const dimensions = meter.dimensions ?? [];
  return (
    <div class="controls">
      <Select
        label="Meter"
        testid="meter"
        value={meter.key}
        options={meters.map((one) => [one.key, one.name || one.key])}
        onChange={(key) => onChange({ ...choice, meter: key, groupBy: "" })}
      />
      <CustomerPicker apiKey={apiKey} customer={choice.customer} onChoose={(customer) => onChange({ ...choice, customer })} />
      <Select
        label="Range"
        testid="range"
        value={choice.range}
        options={[...RANGES.map((range) => [range.id, range.label] as const), ["custom", "Custom (UTC)"]]}
        onChange={(range) => onChange(withRange(choice, { ...startingDates(choice), range: range as RangeId }))}
      />
      <Windows choice={choice} onChange={onChange} />
      {dimensions.length > 0 && (
        <Select
          label="Group by"
          testid="group-by"
          value={choice.groupBy}
          options={[["", "Nothing"], ...dimensions.map((name) => [name, name] as const)]}
          onChange={(groupBy) => onChange({ ...choice, groupBy })}
        />
      )}
      {choice.range === "custom" && (
        <>
          <DateField label="From (UTC)" value={choice.from} onChange={(from) => onChange(withRange(choice, { from }))} />
          <DateField label="To (UTC)" value={choice.to} onChange={(to) => onChange(withRange(choice, { to }))} />
        </>
      )}
    </div>
  );
}

/** A custom range starts as the week that ends now, rather than as two empty fields. */
function startingDates(choice: Choice): Partial<Choice> {
  if (choice.from !== "" && choice.to !== "") return {};
  const hour = 3_600_000;
  const end = Math.ceil(Date.now() / hour) * hour;
  return { from: utcField(end - 168 * hour), to: utcField(end) };
}

interface SelectProps {
  label: string;
  testid: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}

function Select({ label, testid, value, options, onChange }: SelectProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} data-testid={testid} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key} selected={key === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

function DateField({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="datetime-local" value={value} onChange={(event) => onChange(event.currentTarget.value)} />
    </div>
  );
}

const WINDOWS: readonly (readonly [WindowSize, string])[] = [
  ["minute", "Minute"],
  ["hour", "Hour"],
  ["day", "Day"],
];

function Windows({ choice, onChange }: { choice: Choice; onChange: (choice: Choice) => void }) {
  const id = useId();
  const seconds = rangeSeconds(choice);
  return (
    <fieldset class="field segments">
      <legend>Window</legend>
      <div>
        {WINDOWS.map(([window, text]) => {
          const fits = windowFits(window, seconds);
          return (
            <label key={window} title={fits ? undefined : "Too many windows for this range: choose a shorter one"}>
              <input
                type="radio"
                name={id}
                value={window}
                checked={choice.window === window}
                disabled={!fits}
                onChange={() => onChange({ ...choice, window })}
              />
              <span>{text}</span>
            </label>
          );
        })}
      </div>
    </fieldset>
  );
}
