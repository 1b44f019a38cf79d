import { useEffect, useId, useState } from "preact/hooks";

import { type Customer, matches, reference, searchCustomers } from "../api.ts";

interface Props {
  apiKey: string;
  customer: string;
  onChoose: (customer: string) => void;
}

interface Option {
  reference: string;
  label: string;
}

const PAUSE_MS = 180;

/** A combobox: customers by search, or any reference as events carry it, whether a customer of it exists or not. */
export function CustomerPicker({ apiKey, customer, onChoose }: Props) {
  const id = useId();
  const [text, setText] = useState<string | null>(null);
  const [found, setFound] = useState<readonly Customer[]>([]);
  const [active, setActive] = useState(-1);
  const open = text !== null;
  const options = open ? optionsFor(found, text) : [];

  useEffect(() => {
    if (text === null) return;
    const leaving = new AbortController();
    const timer = setTimeout(() => {
      // A failed search leaves the typed reference to choose; the page's other parts say what is wrong.
      searchCustomers(apiKey, text.trim(), leaving.signal).then(setFound, () => setFound([]));
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [apiKey, text]);

  function choose(option: Option | undefined): void {
    setText(null);
    setActive(-1);
    if (option !== undefined) onChoose(option.reference);
  }

  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return setText("");
      const step = event.key === "ArrowDown" ? 1 : -1;
      setActive((at) => (options.length === 0 ? -1 : (Math.max(at, step === 1 ? -1 : 0) + step + options.length) % options.length));
    } else if (event.key === "Enter" && open) {
      event.preventDefault();
      const exact = options.find((option) => option.reference === text.trim());
      choose(options[active] ?? exact ?? (text.trim() === "" ? undefined : options[0]));
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      choose(undefined);
    }
  }

  return (
    <div class="field picker">
      <label for={id}>Customer</label>
      <input
        id={id}
        data-testid="customer"
        role="combobox"
        type="text"
        autocomplete="off"
        spellcheck={false}
        placeholder="Search customers"
        aria-expanded={open && options.length > 0}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={active >= 0 ? `${id}-${active}` : undefined}
        value={text ?? customer}
        onFocus={(event) => event.currentTarget.select()}
        onClick={() => !open && setText("")}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setActive(-1);
        }}
        onKeyDown={onKeyDown}
        onBlur={() => choose(undefined)}
      />
      <ul id={`${id}-list`} role="listbox" aria-label="Customers" hidden={options.length === 0}>
        {options.map((option, index) => (
          <li
            key={option.reference}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === active}
            // mousedown: the input's blur would close the list before a click arrived
            onMouseDown={(event) => {
              event.preventDefault();
              choose(option);
            }}
          >
            <span>{option.reference}</span>
            <small>{option.label}</small>
          </li>
        ))}
      </ul>
    </div>
  );
}

function optionsFor(found: readonly Customer[], text: string): readonly Option[] {
  const wanted = text.trim();
  // What was found may belong to the text before this one.
  const options = found.filter((customer) => matches(customer, wanted)).slice(0, 8).map((customer) => {
    const used = reference(customer);
    return { reference: used, label: customer.name && customer.name !== used ? customer.name : "" };
  });
  const typed = wanted === "" || options.some((option) => option.reference === wanted);
  return typed ? options : [...options, { reference: wanted, label: "as typed" }];
}
