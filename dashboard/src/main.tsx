import { render } from "preact";

import { App } from "./app.tsx";
import "uplot/dist/uPlot.min.css";
import "./styles/base.css";
import "./styles/page.css";
import "./styles/usage.css";

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
