package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/wal"
)

const (
	// mutated is how many groups one turn writes, one after the other.
	mutated = 1000
	// mutatedRecords is how many records a group has, each in a partition of its own.
	mutatedRecords = 10
)

// recordIDs are ids of records, one of each partition.
func recordIDs(turn int) (ids [mutatedRecords]string) {
	for i, found := 0, 0; found < mutatedRecords; i++ {
		id := fmt.Sprintf("%d-%d", turn, i)
		if p := wal.PartitionOf([]byte(id), mutatedRecords); ids[p] == "" {
			ids[p] = id
			found++
		}
	}
	return ids
}

// mutate measures groups of records, each in a partition of its own, against as many puts that are sent at once.
func mutate(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	const doc = "namespace: wide\nabstraction: kv\nlog: {partitions: %d}\n"
	if _, err := c.Namespaces().Apply(ctx, fmt.Sprintf(doc, mutatedRecords), client.ApplyOptions{}); err != nil {
		return err
	}
	value := bytes.Repeat([]byte("x"), 100)
	turn := func(each func(ids *[mutatedRecords]string) error) (float64, error) {
		ids, start := recordIDs(0), time.Now()
		for range mutated {
			if err := each(&ids); err != nil {
				return 0, err
			}
		}
		return mutated / time.Since(start).Seconds(), nil
	}
	group := func(ids *[mutatedRecords]string) error {
		g := c.Group()
		for _, id := range ids {
			g.Put("wide", id, client.PutItem{Key: "k", Value: value})
		}
		_, err := g.Write(ctx, client.Token{})
		return err
	}
	if err := group(new(recordIDs(0))); err != nil { // it makes the namespace of groups
		return err
	}
	subject := side{"groups", func(ctx context.Context, round int) (rate float64, err error) {
		err = s.profile(ctx, fmt.Sprintf("mutate.%d", round), time.Second, func() error {
			rate, err = turn(group)
			return err
		})
		return rate, err
	}}
	peer := side{"ten puts at once", func(ctx context.Context, _ int) (float64, error) {
		kv := c.KV("wide")
		return turn(func(ids *[mutatedRecords]string) error {
			errs := make([]error, len(ids))
			var work sync.WaitGroup
			for i, id := range ids {
				work.Go(func() { _, errs[i] = kv.Put(ctx, id, "k", value) })
			}
			work.Wait()
			return errors.Join(errs...)
		})
	}}
	return h.compare(ctx, fmt.Sprintf("%d groups of %d records of 100 B in as many partitions, one after the other, until all are in their logs", mutated, mutatedRecords),
		"groups/s", atLeast(0.5), subject, &peer, "the client puts puts that come at once into one request")
}
