package counter_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
)

// oneTopic is a log that is only asked what it is.
type oneTopic struct{ wal.Log }

func (oneTopic) Info() wal.TopicInfo { return wal.TopicInfo{Partitions: 1} }

// BenchmarkApply applies records of 250 adds over 100,000 counters of one
// partition, flushed each 250 records and at the end. An operation is an add.
func BenchmarkApply(b *testing.B) {
	windows := []time.Duration{time.Minute, time.Hour, 24 * time.Hour}
	store, err := pebblecounter.Open(pebblecounter.Config{Dir: b.TempDir(), Partitions: 1, TokenWindow: 15 * time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	a := counter.NewApplier(counter.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: oneTopic{}, Ledger: store}, Store: store, Windows: windows,
		Settings: func(uint64) (counter.Settings, error) { return counter.Settings{TokenWindow: 15 * time.Minute}, nil },
	})
	if err := a.Assign(b.Context(), 0); err != nil {
		b.Fatal(err)
	}
	const perRecord = 250
	rng := rand.New(rand.NewPCG(1, 2))
	payloads := make([][]byte, 4096)
	for i := range payloads {
		var adds []byte
		for range perRecord {
			adds = counter.AppendAdd(adds, &counter.Add{Counter: fmt.Appendf(nil, "plays/title-%07d", rng.IntN(100_000)), Delta: 1})
		}
		payloads[i] = counter.AppendPayload(nil, &counter.Call{Op: counter.OpAdd, Adds: adds})
	}
	now := time.Now().UnixMicro()
	entries := make([]wal.Entry, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for n, o := 0, wal.Offset(0); n < b.N; n, o = n+perRecord, o+1 {
		tok := wal.Token{GenerationTime: now, Nonce: wal.NewNonce()}
		rec := &wal.Record{RoutingKey: []byte("x"), Kind: wal.KindCounter, Token: tok, RequestHash: wal.Hash{1}, AcceptedAt: now + int64(o)*200, Payload: payloads[o%4096]}
		entries[0] = wal.Entry{Offset: o, LogTime: now + int64(o)*200, Data: wal.AppendRecord(nil, rec)}
		if _, err := a.Apply(b.Context(), 0, entries); err != nil {
			b.Fatal(err)
		}
		if o%2000 == 1999 {
			if err := a.Flush(b.Context(), 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := a.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
}
