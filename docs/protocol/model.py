"""The ingest protocol with explicit states: one partition, a few records, two workers, every interleaving.

A partition of `usage.raw` holds a few records of one event each, some of them copies. Workers A and B take it over from
each other, and the old owner goes on as a zombie. Modelled: Kafka's commit and the group's generations, the ledger
(epoch, intent, done), inserts that stay on the wire, may be applied late or half (events without their windows) or lose
their reply, the bounded memory of tokens, the duplicate filter (kept, lost or stale), delta records, the guard of the
balances, the seeding of a counter, catalog versions, midnight, crashes anywhere. Not modelled here: several partitions
(see completion.py), replicas, voids, backfills.
"""

from collections.abc import Callable, Iterator
from typing import Any

from docs.protocol import checks
from docs.protocol.rules import (
    CUSTOMER,
    RULES,
    TOO_OLD_TOMORROW,
    Block,
    Left,
    Row,
    Rows,
    State,
    Violation,
    Worker,
    less,
    orphan,
    push,
    put,
)

Steps = Iterator[tuple[str, State]]
To = Callable[..., State]


class Ingest:
    """`ids`: one letter a record, the same letter is a copy. `left`: the faults that may happen. `rules`: the changes."""

    def __init__(self, ids: str, left: Left, **rules: Any) -> None:
        self.ids, self.n, self.r = ids, len(ids), {**RULES, **rules}
        self.names = sorted(set(ids))
        self.first = {i: ids.index(i) for i in self.names}
        idle = Worker("off", 0, 0, None, None, (None,) * len(self.names), 0, 0, 1, None)
        workers = (idle._replace(pc="start"), idle)
        self.start = State(0, 0, 0, (), (), (), (), (), (), ((), ()), (), 0, 0, 0, workers, left, None, 1, 0, False)

    def check(self, s: State) -> None:
        checks.check(self, s)

    def at_rest(self, s: State) -> bool:
        return checks.at_rest(self, s)

    def evaluate(self, filt: Any, first: int, last: int, cat: int, clock: int) -> tuple[Rows, Any]:
        """Rows accepted from the range, and the filter afterwards."""
        filt, rows, dedup = list(filt), [], self.r["dedup"]
        for off in range(first, last + 1):
            i = self.names.index(self.ids[off])
            known = filt[i]
            if self.r["clock"] == "worker" and clock and self.ids[off] == TOO_OLD_TOMORROW:
                continue
            if known is None or (known == off and dedup != "claim") or (known > off and dedup == "earlier"):
                filt[i] = off
                rows.append((off, cat))
        return tuple(rows), tuple(filt)

    def filter_from(self, s: State, local: Any) -> Any:
        if self.r["filter"] == "stale" and any(p is not None for p in local):
            return local
        if self.r["filter"] == "ahead":  # what the ledger lacks is known at its last position in the log
            local = tuple(self.n - 1 - self.ids[::-1].index(i) for i in self.names)
        ev = s.ev[:-1] if self.r["filter"] == "lagging" else s.ev
        stored = {self.ids[off]: off for off, _ in ev}
        return tuple(stored.get(i, p) for i, p in zip(self.names, local, strict=True))

    def delta(self, b: Block, c: int) -> tuple[int, int, int]:
        return b.first, b.last, sum(CUSTOMER[self.ids[off]] == c for off, _ in b.rows)

    def successors(self, s: State) -> Steps:
        yield from self.environment(s)
        for k, item in enumerate(s.wire):
            yield from self.server(s, k, item)
        for me in (0, 1):
            for label, t in self.worker(s, me, s.ws[me]):
                yield f"{'AB'[me]}: {label}", t

    # --- what happens around the workers ---

    def environment(self, s: State) -> Steps:
        left = s.left
        if left.rebalance:
            o = 1 - s.owner
            ws = put(s.ws, o, restarted(s.ws[o], s.group + 1))
            yield (
                f"rebalance to {'AB'[o]}",
                s._replace(owner=o, ws=ws, group=s.group + 1, left=less(left, "rebalance")),
            )
        if left.forget:
            for o in (0, 1):
                ws = put(s.ws, o, restarted(s.ws[o], 1))
                yield (
                    f"the group is forgotten, {'AB'[o]} joins it",
                    s._replace(owner=o, ws=ws, group=1, committed=0, left=less(left, "forget")),
                )
        if left.hour:
            yield "an hour without a sign of life", s._replace(aged=True, left=less(left, "hour"))
        if left.cat:
            yield "catalog version 1", s._replace(cat=1, left=less(left, "cat"))
        if left.day:
            yield "midnight", s._replace(day=1, left=less(left, "day"))
        if left.noise:  # a long while, or many blocks of other partitions
            wire = () if self.r["deadline"] else s.wire
            yield (
                "tokens forgotten",
                s._replace(era=s.era + 1, tok_e=(), tok_w=(), left=less(left, "noise"), wire=wire),
            )
        if left.seed:
            yield from self.seeds(s)
        for k, (_, c, d) in enumerate(s.pend):
            yield f"delta {d} delivered late", s._replace(pend=put(s.pend, k), deltas=push(s.deltas, c, d))

    def seeds(self, s: State) -> Steps:
        last = s.ledger[-1] if s.ledger else None
        if self.r["seed"] == "done" or last is None or last.done:
            cut = max([r.b.last for r in s.ledger if r.done], default=-1)
            used = sum(off <= cut and CUSTOMER[self.ids[off]] == 0 for off, _ in s.ev)
            for read in range(len(s.deltas[0]) + 1):
                yield (
                    f"balances: counter seeded at cut {cut} with {used}, {read} deltas already read",
                    s._replace(seed=(read, cut, used), left=less(s.left, "seed")),
                )

    def server(self, s: State, k: int, item: Any) -> Steps:
        key, rows, sender, stage = item
        if stage == 0:
            t = s._replace(wire=put(s.wire, k, (key, rows, sender, 1)))
            if key not in s.tok_e or self.r["token"] == "none":
                t = t._replace(ev=tuple(sorted(s.ev + rows)), tok_e=(*s.tok_e, key)[-self.r["window"] :])
            yield f"server: {rows} into events", t
        else:
            t = s._replace(wire=put(s.wire, k))
            if key not in s.tok_w or self.r["token"] == "none":
                t = t._replace(win=tuple(sorted(s.win + rows)), tok_w=(*s.tok_w, key)[-self.r["window"] :])
            waits = sender >= 0 and s.ws[sender].pc == "sent"
            if not waits or s.left.timeout:
                yield f"server: {rows} into windows, no reply", t
            if waits:
                ws = put(t.ws, sender, t.ws[sender]._replace(pc="inserted"))
                yield f"server: {rows} into windows, ok", t._replace(ws=ws)
        if s.left.server:
            yield f"server drops {rows}, stage {stage}", s._replace(wire=put(s.wire, k), left=less(s.left, "server"))

    # --- a worker ---

    def worker(self, s: State, me: int, w: Worker) -> Steps:
        r = self.r

        def to(t: State = s, **kw: Any) -> State:
            return t._replace(ws=put(t.ws, me, w._replace(**kw)))

        if s.left.crash and w.pc != "off":
            again = "start" if s.owner == me else "off"
            for word, filt in (("", w.filt), (" and loses its disk", (None,) * len(w.filt))):
                pend = tuple(p for p in s.pend if p[0] != me)
                t = s._replace(left=less(s.left, "crash"), pend=pend, wire=orphan(s.wire, me))
                yield "crashes" + word, to(t, pc=again, blk=None, inherit=None, nxt=None, sent=0, filt=filt)
        if w.pc == "start":
            if r["rebuild"] == "before_fence":
                yield "rebuilds", to(pc="fence", filt=self.filter_from(s, w.filt))
            else:
                yield from self.fence(s, me, w, "rebuild")
        elif w.pc == "fence":
            yield from self.fence(s, me, w, "open")
        elif w.pc == "rebuild":
            yield "rebuilds", to(pc="open", filt=self.filter_from(s, w.filt))
        elif w.pc == "open":
            if s.left.drop and w.pos < self.n and not w.inherit:
                yield "loses a queued record", to(s._replace(left=less(s.left, "drop")), pos=w.pos + 1)
            last = s.ledger[-1].b.last + 1 if s.ledger else 0
            if r["idle_check"] and w.pos >= self.n and last < self.n and not w.inherit:
                yield "idle, but the ledger is behind the log: starts again", to(pc="start")
            yield from self.compose(s, me, w, to)
        elif w.pc in ("composed", "checked"):
            yield self.intent(s, me, w, to)
        elif w.pc == "intended":
            yield from self.insert(s, me, w, to)
        elif w.pc == "sent":
            lost = not any(i[2] == me for i in s.wire)
            if lost or s.left.timeout:
                left = s.left if lost else less(s.left, "timeout")
                yield "times out", to(s._replace(left=left, wire=orphan(s.wire, me)), pc="intended")
        elif w.pc == "inserted" and (w.sent == 2 or r["deltas"] != "before_done" or not r["await"]):
            yield self.done(s, me, w, to)
        elif w.pc == "done" and w.sent == 2:
            yield from self.acknowledge(s, me, w, to)
        if r["pipeline"] != "off" and w.nxt is None and w.pc in ("intended", "sent", "inserted"):
            yield from self.compose_next(s, w, to)
        yield from self.send_deltas(s, w, to)

    def fence(self, s: State, me: int, w: Worker, then: str) -> Steps:
        """protocol 19: the generation only spares an owner restarts; what keeps counts right is the epoch."""
        rule, owner = self.r["generation"], s.owner == me
        if rule == "none" or w.gen >= s.lgen or (s.aged and rule == "relaxed"):
            yield "fences", self.take_over(s, me, w, then)
        elif rule == "relaxed" and owner:
            # The broker takes a commit of ours. By the time of the take-over that may be over: a step of its own.
            t = s._replace(ws=put(s.ws, me, w._replace(gen=s.lgen)))
            yield "older than the ledger's generation, but the broker confirms it", t
        elif not owner:
            yield "take-over refused: an older generation", s._replace(ws=put(s.ws, me, w._replace(pc="off")))

    def take_over(self, s: State, me: int, w: Worker, then: str) -> State:
        done = [x.b for x in s.ledger if x.done]
        inherit = s.ledger[-1].b if s.ledger and not s.ledger[-1].done else None
        pos = inherit.first if inherit else (done[-1].last + 1 if done else 0)
        pos = s.committed if self.r["resume"] == "commit" else pos
        if self.r["ack"] == "first" and s.committed > pos:
            pos, inherit = s.committed, None
        if self.r["deltas"] == "after_done":
            for b in done:
                for c in (0, 1):
                    if b.last >= s.committed and self.delta(b, c)[2]:
                        s = s._replace(deltas=push(s.deltas, c, self.delta(b, c)))
        taken = w._replace(pc=then, epoch=s.epoch + 1, pos=pos, inherit=inherit, blk=None, nxt=None, sent=0)
        lgen = w.gen if self.r["generation"] != "none" else s.lgen
        return s._replace(epoch=s.epoch + 1, lgen=lgen, wire=orphan(s.wire, me), ws=put(s.ws, me, taken))

    def stopped(self, s: State, me: int) -> str:
        return (
            "start" if s.owner == me else "off"
        )  # a refused worker dies; restarted, it takes over what it is assigned

    def compose(self, s: State, me: int, w: Worker, to: To) -> Steps:
        r, old = self.r, w.inherit
        if old and r["composition"] == "intent":
            for cat in (old.cat,) if r["versions"] == "intent" else range(s.cat + 1):
                if not r["reevaluate"] and set(old.rows) & set(s.ev):
                    yield "takes the inherited block as stored", to(pc="inserted", blk=old, era=old.era)
                    continue
                rows, filt = self.evaluate(w.filt, old.first, old.last, cat, s.day)
                block = old._replace(cat=cat, rows=rows)
                yield f"composes inherited {old.first}-{old.last}", to(pc="composed", blk=block, filt=filt)
            return
        expected = s.ledger[-1].b.last + 1 if s.ledger else 0
        if expected < w.pos < self.n and r["contiguity"] and r["ack"] == "last":
            yield "sees a gap, starts again", to(pc="start", blk=None, inherit=None)
            return
        for last, cat in self.cuts(s, w.pos, s.ledger[-1].b.cat if s.ledger else 0):
            rows, filt = self.evaluate(w.filt, w.pos, last, cat, s.day)
            t = s._replace(committed=last + 1) if r["ack"] == "first" and s.owner == me else s
            b = Block(w.pos, last, cat, s.day, s.era, rows)
            yield f"composes {w.pos}-{last} at version {cat}: {rows}", to(t, pc="composed", blk=b, filt=filt)

    def compose_next(self, s: State, w: Worker, to: To) -> Steps:
        """The next block is judged while this one is being inserted: against a filter that this one is in already."""
        blk = known(w.blk)
        filt = w.filt
        if self.r["pipeline"] == "unentered":
            filt = tuple(None if p is not None and blk.first <= p <= blk.last else p for p in filt)
        for last, cat in self.cuts(s, blk.last + 1, blk.cat):
            rows, after = self.evaluate(filt, blk.last + 1, last, cat, s.day)
            b = Block(blk.last + 1, last, cat, s.day, s.era, rows)
            yield f"composes {b.first}-{last} meanwhile: {rows}", to(nxt=b, filt=after)

    def cuts(self, s: State, first: int, lowest: int) -> Iterator[tuple[int, int]]:
        """Where a block that begins at `first` may end, at which catalog versions."""
        for last in range(first, min(first + 2, self.n)):
            for cat in range(s.cat + 1):
                if not self.r["monotone"] or cat >= lowest:
                    yield last, cat

    def intent(self, s: State, me: int, w: Worker, to: To) -> tuple[str, State]:
        b, ledger, checked = known(w.blk), s.ledger, w.pc == "checked"
        if self.r["fencing"] and s.epoch != w.epoch and not checked:
            return "intent refused: fenced", to(pc=self.stopped(s, me))
        if w.inherit and self.r["composition"] == "intent":
            if b.rows != w.inherit.rows:
                raise Violation(f"the same block with other rows: {w.inherit.rows} and {b.rows}")
            t = s._replace(ledger=tuple(x._replace(epoch=w.epoch) if x.b[:2] == b[:2] else x for x in ledger))
            return "takes the intent over", to(t, pc="intended", inherit=None, era=b.era)
        ledger = tuple(x for x in ledger if not w.inherit or x.b[:2] != w.inherit[:2])
        if self.r["chain"] and b.first != (ledger[-1].b.last + 1 if ledger else 0) and not checked:
            return "intent refused: not the next", to(pc=self.stopped(s, me))
        if not self.r["cas"] and not checked:
            return "checks epoch and chain", to(pc="checked")
        b = b._replace(era=s.era)
        t = s._replace(ledger=(*ledger, Row(b, w.epoch, False)))
        return f"intent {b.first}-{b.last}", to(t, pc="intended", inherit=None, blk=b, era=s.era)

    def insert(self, s: State, me: int, w: Worker, to: To) -> Steps:
        other, blk = s.ws[1 - me], known(w.blk)
        if not blk.rows:
            yield "has nothing to insert", to(pc="inserted")
        elif self.r["look"] == "no" or w.era == s.era:
            day = s.day if self.r["day"] == "send" else blk.day
            key = day, blk.first, blk.last, w.epoch if self.r["token"] == "attempt" else 0
            item = (key, blk.rows, me, 0)
            yield f"sends {blk.rows}", to(s._replace(wire=tuple(sorted((*s.wire, item)))), pc="sent")
        elif self.r["fencing"] and s.epoch != w.epoch:
            yield "renewal refused: fenced", to(pc=self.stopped(s, me), nxt=None)
        elif self.r["look"] == "hasty" or not (s.wire or (other.pc in ("intended", "sent") and other.era == s.era)):
            if set(blk.rows) & set(s.ev):
                win = s.win
                if self.r["look"] != "skip":
                    others = {x for x in win if not blk.first <= x[0] <= blk.last}
                    win = tuple(sorted(others | set(blk.rows)))
                yield "looks: stored already", to(s._replace(win=win), pc="inserted")
            else:
                yield "looks: not stored", to(era=s.era)

    def done(self, s: State, me: int, w: Worker, to: To) -> tuple[str, State]:
        """Done alone, or, where the next block is judged already, together with its intent in one compare-and-set."""
        blk = known(w.blk)
        if self.r["fencing"] and s.epoch != w.epoch:
            return "done refused: fenced", to(pc=self.stopped(s, me), nxt=None)
        ledger = tuple(x._replace(done=True) if x.b[:2] == blk[:2] else x for x in s.ledger)
        t = s._replace(ledger=ledger, aged=False)
        loose = not self.r["await"] or (self.r["pipeline"] == "loose" and w.nxt is not None)
        if loose:
            t = t._replace(pend=t.pend + tuple((me, c, self.delta(blk, c)) for c in (0, 1)))
        sent = 2 if loose else w.sent
        if w.nxt is None:
            return "done", to(t, pc="done", sent=sent)
        nxt = w.nxt._replace(era=s.era)
        t = t._replace(ledger=(*ledger, Row(nxt, w.epoch, False)))
        return f"done, and intent {nxt.first}-{nxt.last}", to(t, pc="done", nxt=nxt, sent=sent)

    def send_deltas(self, s: State, w: Worker, to: To) -> Steps:
        when = {
            "before_done": ("sent", "inserted"),
            "before_ack": ("sent", "inserted", "done"),
            "after_done": ("done",),
        }[self.r["deltas"]]
        if w.pc in when and w.sent < 2 and self.r["await"]:
            d = self.delta(known(w.blk), w.sent)
            t = s._replace(deltas=push(s.deltas, w.sent, d)) if d[2] else s
            yield f"delta {d} to customer {w.sent}", to(t, sent=w.sent + 1)

    def acknowledge(self, s: State, me: int, w: Worker, to: To) -> Steps:
        """After the deltas. Kafka's commit may come later, or be refused: a zombie that inserts goes on unaware."""
        last = known(w.blk).last + 1
        t = s._replace(committed=max(s.committed, last))
        if w.nxt is None:
            on: dict[str, Any] = {"pc": "open", "pos": last, "blk": None, "sent": 0}
        else:
            on = {"pc": "intended", "pos": last, "blk": w.nxt, "nxt": None, "sent": 0, "era": w.nxt.era}
            yield "goes on uncommitted", to(s, **on)
        if s.owner == me:
            yield "commits", to(t, **on)
        else:
            yield "commit refused, stops", to(pc="off", blk=None, nxt=None)


def known(block: Block | None) -> Block:
    if block is None:
        raise TypeError("no block here")
    return block


def restarted(w: Worker, generation: int) -> Worker:
    return w._replace(pc="start", blk=None, inherit=None, nxt=None, sent=0, gen=generation)
