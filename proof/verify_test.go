package proof

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// settle sends every write without an outcome again, with its token, until it
// has one.
func (b *book) settle(c *conn) error {
	for _, w := range b.open() {
		ctx, cancel := callContext()
		a := c.send(ctx, w)
		cancel()
		b.note(w, &a, false)
		if a.outcome == unknown {
			return fmt.Errorf("%v: sent again: %w", w, a.err)
		}
	}
	return b.err()
}

// again sends a sample of the settled writes of the last rounds again, and
// other requests under their tokens.
func (b *book) again(c *conn, sample []*write) error {
	for i, w := range sample {
		ctx, cancel := callContext()
		if i%4 == 3 {
			a := c.send(ctx, w.other())
			b.noteOther(w, &a)
		} else {
			a := c.send(ctx, w)
			b.note(w, &a, true)
		}
		cancel()
	}
	return b.err()
}

// verify reads everything back and compares it with what the book says.
func (b *book) verify(c *conn, kvName, logName string) error {
	want, err := b.expected()
	if err != nil {
		return err
	}
	before := time.Now()
	got, err := c.scan(kvName)
	if err != nil {
		return err
	}
	if err := compare(want, got, before, time.Now(), "scan"); err != nil {
		return err
	}
	for id := range want {
		before := time.Now()
		items, err := c.record(kvName, id)
		if err != nil {
			return err
		}
		if err := compare(map[string]map[string]held{id: want[id]}, map[string]map[string]*headwaterv1.Item{id: items}, before, time.Now(), "get"); err != nil {
			return err
		}
	}
	return b.verifyLog(c, logName)
}

// compare requires got to hold exactly what want says. An item that expires
// between before and after may be there or not.
func compare(want map[string]map[string]held, got map[string]map[string]*headwaterv1.Item, before, after time.Time, how string) error {
	var errs []error
	for id, keys := range want {
		for key, h := range keys {
			it := got[id][key]
			gone := h.version.Class == wal.Deleted
			if e := h.version.Expiry; e != 0 {
				// The log's clock, which readers also look at, may run ahead a little.
				if gone = e <= before.UnixMicro(); !gone && e <= after.Add(time.Second).UnixMicro() {
					continue
				}
			}
			switch {
			case gone && it != nil:
				errs = append(errs, fmt.Errorf("%s: %s %s holds %q, which %v of %v ends", how, id, key, it.Value, h.version, h.from))
			case !gone && it == nil:
				errs = append(errs, fmt.Errorf("%s: %s %s is lost: %v of %v", how, id, key, h.version, h.from))
			case !gone && !bytes.Equal(it.Value, h.value):
				errs = append(errs, fmt.Errorf("%s: %s %s holds %q and not %q of %v", how, id, key, it.Value, h.value, h.from))
			case !gone && it.Version != h.version.String():
				v, err := wal.ParseVersion(it.Version)
				errs = append(errs, fmt.Errorf("%s: %s %s has version %v (%w) and not %v of %v", how, id, key, v, err, h.version, h.from))
			case !gone && h.version.Expiry != 0 && it.ExpiresAt.AsTime().UnixMicro() != h.version.Expiry:
				errs = append(errs, fmt.Errorf("%s: %s %s expires at %v and not %d", how, id, key, it.ExpiresAt.AsTime(), h.version.Expiry))
			}
		}
	}
	for id, keys := range got {
		for key, it := range keys {
			if _, ok := want[id][key]; !ok {
				errs = append(errs, fmt.Errorf("%s: %s %s holds %q, which nobody wrote", how, id, key, it.Value))
			}
		}
	}
	return errors.Join(errs[:min(len(errs), 10)]...)
}

// scan reads all of a namespace in small pages.
func (c *conn) scan(name string) (map[string]map[string]*headwaterv1.Item, error) {
	out := make(map[string]map[string]*headwaterv1.Item)
	size := int64(16 << 10)
	req := &headwaterv1.ScanItemsRequest{Namespace: name, PageSizeBytes: &size}
	for {
		ctx, cancel := callContext()
		r, err := c.kv.ScanItems(ctx, req)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("scan: %w", err)
		}
		for _, rec := range r.Records {
			if out[rec.Id] == nil {
				out[rec.Id] = make(map[string]*headwaterv1.Item)
			}
			for _, it := range rec.Items {
				if out[rec.Id][string(it.Key)] != nil {
					return nil, fmt.Errorf("scan: %s %q came twice", rec.Id, it.Key)
				}
				out[rec.Id][string(it.Key)] = it
			}
		}
		if req.PageToken = r.NextPageToken; req.PageToken == "" {
			return out, nil
		}
	}
}

// record reads all of one record in small pages.
func (c *conn) record(name, id string) (map[string]*headwaterv1.Item, error) {
	out := make(map[string]*headwaterv1.Item)
	size := int64(4 << 10)
	req := &headwaterv1.GetItemsRequest{Namespace: name, Id: id, Selection: &headwaterv1.Selection{PageSizeBytes: &size},
		Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}}
	for {
		ctx, cancel := callContext()
		r, err := c.kv.GetItems(ctx, req)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", id, err)
		}
		for _, it := range r.Items {
			if out[string(it.Key)] != nil {
				return nil, fmt.Errorf("get %s: %q came twice", id, it.Key)
			}
			out[string(it.Key)] = it
		}
		if req.PageToken = r.NextPageToken; req.PageToken == "" {
			return out, nil
		}
	}
}

// verifyLog reads the log namespace from its beginning: every acknowledged
// message once, at the place that was told, in order, and nothing else.
func (b *book) verifyLog(c *conn, name string) error {
	ctx, cancel := callContext()
	defer cancel()
	stream, err := c.log.ReadLog(ctx, &headwaterv1.ReadLogRequest{Namespace: name, From: &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}}})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	type place struct {
		p wal.Partition
		o wal.Offset
	}
	got := make(map[place]*headwaterv1.ReadLogResponse)
	last := make(map[int32]int64)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if o, ok := last[m.Partition]; ok && m.Offset <= o {
			return fmt.Errorf("read the log: partition %d: offset %d after %d", m.Partition, m.Offset, o)
		}
		last[m.Partition] = m.Offset
		got[place{wal.Partition(m.Partition), wal.Offset(m.Offset)}] = m
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, w := range b.writes {
		if w.log == nil || !w.settled || w.first.outcome != acked {
			continue
		}
		at := place{w.first.part, w.first.offset}
		m := got[at]
		switch {
		case m == nil:
			errs = append(errs, fmt.Errorf("%v: lost from the log (%v)", w, &w.first))
		case !bytes.Equal(m.Payload, w.log.Payload) || m.Key != w.log.Key || !slices.Equal(m.Token.GetNonce(), w.log.Token.GetNonce()):
			errs = append(errs, fmt.Errorf("%v: %v in its place", w, m))
		}
		delete(got, at)
	}
	for at, m := range got {
		errs = append(errs, fmt.Errorf("log %d/%d: %q is there twice, or was never acknowledged", at.p, at.o, m.Payload))
	}
	return errors.Join(errs[:min(len(errs), 10)]...)
}
