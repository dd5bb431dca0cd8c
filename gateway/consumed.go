package gateway

import (
	"slices"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/durable"
)

// VerdictOf is what a consumer is to know of the record of an entry, by its exceptions: the row that the store keeps of
// it, nil where it has none. Errors: those of decoding.
func VerdictOf(e *wal.Entry, row []byte) (v durable.Verdict, err error) {
	var rec wal.Record
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return v, err
	}
	var ds []consumers.Decision
	if len(row) > 0 {
		if ds, err = consumers.DecodeDecisions(nil, e.Offset, row); err != nil {
			return v, err
		}
	}
	if rec.Kind == wal.KindControl {
		return durable.Verdict{Skip: true, Also: redrivenBy(e.Offset, ds)}, nil
	}
	calls, err := callsOf(&rec)
	if err != nil { // it could not be applied either
		calls = 1
	}
	if v.Skip = calls == 0; v.Skip {
		return v, nil
	}
	if isMessage(&rec) {
		b, err := delivery.DecodeBody(&rec)
		if err != nil {
			return v, err
		}
		v.Due = b.Due(e.LogTime)
	}
	return v, judged(&v, e.Offset, ds, calls, refusalOf(rec.Kind))
}

// refusalOf says why a call had no effect, of the decisions of a kind's own.
func refusalOf(k wal.Kind) func(*consumers.Decision) (string, error) {
	switch k {
	case wal.KindKV:
		return kv.RefusedBy
	case wal.KindCounter:
		return counter.RefusedBy
	case wal.KindTimeSeries:
		return func(d *consumers.Decision) (string, error) { return timeseries.RefusedBy(d), nil }
	}
	return func(*consumers.Decision) (string, error) { return "", nil }
}

// redrivenBy are the records that a control record has applied.
func redrivenBy(at wal.Offset, ds []consumers.Decision) (out []wal.Offset) {
	for i := range ds {
		if ds[i].What == consumers.WasRedriven && ds[i].Offset != at && !slices.Contains(out, ds[i].Offset) {
			out = append(out, ds[i].Offset)
		}
	}
	slices.Sort(out)
	return out
}

// judged puts into v what the exceptions say of a record of so many calls.
func judged(v *durable.Verdict, at wal.Offset, ds []consumers.Decision, calls int, own func(*consumers.Decision) (string, error)) error {
	for i := range ds {
		d := &ds[i]
		if d.Offset != at {
			continue
		}
		why := d.Refusal()
		if why == "" {
			var err error
			if why, err = own(d); err != nil {
				return err
			}
		}
		if why == "" || slices.Contains(v.Partly, d.Index) {
			continue
		}
		if v.Reason == "" {
			v.Reason = why
			v.Outcome = outcomeOf(d)
		}
		if d.Index == wal.WholeRecord {
			v.Partly = nil
			return nil
		}
		v.Partly = append(v.Partly, d.Index)
	}
	switch {
	case len(v.Partly) >= calls:
		v.Partly = nil
	case v.Reason != "":
		v.Outcome = durable.Applied
	}
	return nil
}

func outcomeOf(d *consumers.Decision) durable.Outcome {
	switch d.What {
	case consumers.WasParked:
		return durable.Parked
	case consumers.WasDropped:
		return durable.Dropped
	}
	return durable.Refused
}

// callsOf is how many calls, adds or events a record has that consumers are told of; 0: it is nothing to them.
func callsOf(rec *wal.Record) (n int, err error) {
	switch rec.Kind {
	case wal.KindMessage, wal.KindEnvelope:
		return 1, nil
	case wal.KindKV:
		var p kv.Payload
		if err := kv.DecodePayload(rec.Payload, &p); err != nil {
			return 0, err
		}
		for i := range p.Calls {
			if slices.ContainsFunc(p.Calls[i].Mutations, changesItems) {
				return len(p.Calls), nil
			}
		}
	case wal.KindCounter:
		var c counter.Call
		if err := counter.DecodePayload(rec.Payload, &c); err != nil {
			return 0, err
		}
		if c.Op != counter.OpAdd {
			return 1, nil
		}
		r := counter.NewAddReader(c.Adds)
		for {
			if ok, err := r.Next(&counter.Add{}); !ok || err != nil {
				return n, err
			}
			n++
		}
	case wal.KindTimeSeries:
		var c timeseries.Call
		if err := timeseries.DecodePayload(rec.Payload, &c); err != nil {
			return 0, err
		}
		return max(c.Len(), 1), nil
	}
	return 0, nil
}

// changesItems: the parts of an upload are nothing that a reader can see.
func changesItems(m kv.Mutation) bool {
	return m.Op != kv.OpBeginUpload && m.Op != kv.OpChunk && m.Op != kv.OpAbortUpload
}
