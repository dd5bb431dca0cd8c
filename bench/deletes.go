package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/headwater-db/headwater/client"
)

// deletes measures what it takes to delete a whole record until a reader sees
// that it is gone: the acknowledgement, and a read of the record that waits for
// it and must find nothing, which is also where a delete that only hides its
// items would be slow.
func deletes(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	kv := c.KV("demo-kv")
	var acked, gone []turn
	one := func(ctx context.Context, id string) (ack, all float64, err error) {
		start := time.Now()
		if _, err := kv.DeleteRecord(ctx, id); err != nil {
			return 0, 0, err
		}
		ack = milliseconds(start)
		page, err := kv.Page(ctx, id, client.ReadOptions{}, "")
		if err == nil && (len(page.Items) != 0 || page.Next != "") {
			err = fmt.Errorf("record %s has %d items after it was deleted", id, len(page.Items))
		}
		return ack, milliseconds(start), err
	}
	for round := 0; len(gone) < h.rounds || h.disturbedAmong(gone) > 0 && round < h.rounds+h.repeats; round++ {
		big := fmt.Sprintf("big-%d", round)
		if err := putMany(ctx, c, big, h.bigRecord, valueBytes); err != nil {
			return err
		}
		// Single deletes vary with the fsync that they meet, so that of the large
		// record stands between two halves of many of small ones.
		const small = 30
		for i := range small {
			if err := putMany(ctx, c, fmt.Sprintf("small-%d-%d", round, i), 1, valueBytes); err != nil {
				return err
			}
		}
		if _, err := kv.Page(ctx, big, client.ReadOptions{Limit: 1}, ""); err != nil { // all of it is applied
			return err
		}
		w := h.watch()
		var acks, alls []float64
		var a, g turn
		for i := range small {
			if i == small/2 {
				if a.subject, g.subject, err = one(ctx, big); err != nil {
					return err
				}
			}
			ack, all, err := one(ctx, fmt.Sprintf("small-%d-%d", round, i))
			if err != nil {
				return err
			}
			acks, alls = append(acks, ack), append(alls, all)
		}
		a.peer, g.peer = median(acks), median(alls)
		a.elsewhere = w.elsewhere()
		g.elsewhere = a.elsewhere
		acked, gone = append(acked, a), append(gone, g)
	}
	many := fmt.Sprintf("%s items", number(float64(h.bigRecord)))
	h.add("record delete, acknowledged", "ms", atMost(1.5), many, "1 item", acked, "items of 100 B; one delete of the large record a turn, between 30 of small ones")
	h.add("record delete, acknowledged and seen by a read", "ms", atMost(1.5), many, "1 item", gone, "")
	return nil
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since).Nanoseconds()) / 1e6
}
