package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

const (
	shopDocument = "namespace: shop\nabstraction: kv\nlog: { partitions: 4 }\n"
	shopItems    = 2_000_000
	shopCall     = 1_000 // items of a call, each in a record of its own
	// shopPuts is how many puts a second are sent while a store is built, by shopCallers.
	shopPuts    = 5_000
	shopCallers = 16
	// aloneFor is how long puts are measured that nothing is built beside.
	aloneFor = 5 * time.Second
)

// shop is a namespace of shopItems items whose stores are changed.
type shop struct {
	c     *client.Client
	stock *client.KV
	next  int // numbers its stores
}

// stores measures what it costs to build a second store beside puts, to compare it,
// and to have it take over beside reads.
func stores(ctx context.Context, h *harness) error {
	dir := filepath.Join(h.data, "shop")
	s, c, err := h.served(ctx, dir)
	if err != nil {
		return err
	}
	x := &shop{c: c, stock: c.KV("shop")}
	err = x.fill(ctx)
	if err == nil {
		err = x.measure(ctx, h)
	}
	return errors.Join(err, c.Close(), s.stop(), os.RemoveAll(dir))
}

func (x *shop) fill(ctx context.Context) error {
	if _, err := x.c.Namespaces().Apply(ctx, shopDocument, client.ApplyOptions{}); err != nil {
		return err
	}
	value := make([]byte, 100)
	for n := range shopItems / shopCall {
		items := make([]client.PutItem, shopCall)
		for i := range items {
			items[i] = client.PutItem{Key: "item/" + strconv.Itoa(i), Value: value}
		}
		if _, err := x.stock.PutItems(ctx, "shelf/"+strconv.Itoa(n), items, client.WriteOptions{}); err != nil {
			return err
		}
	}
	_, err := x.stock.GetWith(ctx, "shelf/0", "item/0", client.ReadOptions{Consistency: client.Latest})
	return err
}

func (x *shop) measure(ctx context.Context, h *harness) error {
	var built, compared, p99, swap []turn
	for range h.rounds {
		t, err := x.round(ctx, h)
		if err != nil {
			return err
		}
		built, compared, p99, swap = append(built, t.built), append(compared, t.compared), append(p99, t.p99), append(swap, t.swap)
	}
	note := fmt.Sprintf("%d items of 100 bytes, %d puts/s by %d callers", shopItems, shopPuts, shopCallers)
	h.add("a SHADOW is built beside puts", "items/s", &bar{limit: 100_000, atLeast: true, absolute: true}, "build", "", built, note)
	h.add("p99 of puts while a SHADOW is built", "ms", atMost(2), "beside it", "alone", p99, note)
	h.add("a comparison, with no load", "items/s", &bar{limit: 200_000, atLeast: true, absolute: true}, "compare", "", compared, "")
	h.add("the slowest read while a SHADOW takes over", "ms", &bar{limit: 100, absolute: true}, "read", "", swap, "8 callers")
	return nil
}

// shopTurn is one round of all.
type shopTurn struct{ built, compared, p99, swap turn }

func (x *shop) round(ctx context.Context, h *harness) (t shopTurn, err error) {
	m := h.watch()
	alone, cancel := context.WithTimeout(ctx, aloneFor)
	t.p99.peer, err = x.puts(alone)
	cancel()
	if err != nil {
		return t, err
	}
	all, err := x.c.Admin().Stores(ctx, "shop")
	if err != nil {
		return t, err
	}
	primary := all[0].GetName()
	x.next++
	name := "shadow-" + strconv.Itoa(x.next)
	building, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		t.p99.subject, err = x.puts(building)
		ended <- err
	}()
	began := time.Now()
	_, err = x.c.Namespaces().Apply(ctx, shopDocument+fmt.Sprintf("storage:\n  - {role: PRIMARY, type: pebble, name: %s}\n  - {role: SHADOW, type: pebble, name: %s}\n", primary, name), client.ApplyOptions{})
	if err == nil {
		err = x.await(ctx, name, func(st *headwaterv1.Store) bool { return st.GetState() == headwaterv1.Store_COMPARING })
	}
	t.built.subject = shopItems / time.Since(began).Seconds()
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return t, err
	}
	if err = x.await(ctx, name, func(st *headwaterv1.Store) bool { return st.Compared != nil }); err != nil {
		return t, err
	}
	if t.compared.subject, err = x.compare(ctx, name); err != nil {
		return t, err
	}
	if t.swap.subject, err = x.swap(ctx, name); err != nil {
		return t, err
	}
	elsewhere := m.elsewhere()
	for _, one := range []*turn{&t.built, &t.compared, &t.p99, &t.swap} {
		one.elsewhere = elsewhere
	}
	return t, x.c.Admin().DropStore(ctx, "shop", primary, primary)
}

// puts sends single puts at an even rate until ctx ends, and returns the p99 of their
// latencies in milliseconds, each from when it was sent.
func (x *shop) puts(ctx context.Context) (float64, error) {
	var work sync.WaitGroup
	sums, errs := make([]benchload.Histogram, shopCallers), make([]error, shopCallers)
	value := make([]byte, 100)
	for i := range shopCallers {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), uint64(x.next)))
			every := time.Second * shopCallers / shopPuts
			for due := time.Now(); ctx.Err() == nil; due = due.Add(every) {
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				sent := time.Now()
				id := "shelf/" + strconv.Itoa(r.IntN(shopItems/shopCall))
				if _, err := x.stock.Put(context.WithoutCancel(ctx), id, "item/"+strconv.Itoa(r.IntN(shopCall)), value); err != nil {
					errs[i] = err
					return
				}
				sums[i].Record(time.Since(sent))
			}
		})
	}
	work.Wait()
	for i := range sums[1:] {
		sums[0].Add(&sums[i+1])
	}
	return float64(sums[0].Quantile(0.99).Microseconds()) / 1000, errors.Join(errs...)
}

// await waits until a store is right.
func (x *shop) await(ctx context.Context, name string, right func(*headwaterv1.Store) bool) error {
	for {
		all, err := x.c.Admin().Stores(ctx, "shop")
		if err != nil {
			return err
		}
		for _, st := range all {
			if st.GetName() != name {
				continue
			}
			if st.GetState() == headwaterv1.Store_FAILED || st.GetCompared().GetDifferences() > 0 {
				return fmt.Errorf("store %s: %v", name, st)
			}
			if right(st) {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// compare compares a store and returns items a second.
func (x *shop) compare(ctx context.Context, name string) (float64, error) {
	began := time.Now()
	id, err := x.c.Admin().CompareStore(ctx, "shop", name)
	for err == nil {
		var j *headwaterv1.Job
		if j, err = x.c.Admin().Job(ctx, id); err == nil && j.GetState() != headwaterv1.Job_RUNNING {
			if j.GetState() != headwaterv1.Job_DONE {
				err = fmt.Errorf("comparison: %s", j.GetMessage())
			}
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return shopItems / time.Since(began).Seconds(), err
}

// swap has a store take over beside reads, and returns the slowest in milliseconds.
func (x *shop) swap(ctx context.Context, name string) (float64, error) {
	reading, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	sums, errs := make([]benchload.Histogram, 8), make([]error, 8)
	for i := range sums {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for reading.Err() == nil {
				began := time.Now()
				_, err := x.stock.Get(ctx, "shelf/"+strconv.Itoa(r.IntN(shopItems/shopCall)), "item/"+strconv.Itoa(r.IntN(shopCall)))
				if err != nil {
					errs[i] = err
					return
				}
				sums[i].Record(time.Since(began))
			}
		})
	}
	time.Sleep(time.Second)
	_, err := x.c.Admin().PromoteStore(ctx, "shop", name, false)
	time.Sleep(time.Second)
	stop()
	work.Wait()
	for i := range sums[1:] {
		sums[0].Add(&sums[i+1])
	}
	return float64(sums[0].Quantile(1).Microseconds()) / 1000, errors.Join(append(errs, err)...)
}
