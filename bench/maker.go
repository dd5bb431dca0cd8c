package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// valueBytes is the size of every value that is put.
const valueBytes = 100

// writePuts appends n puts of valueBytes to a log, each of a record id of its own
// and under its own token, as the gateway records them: together puts of one
// partition that arrived in one request share a record, and a single one has its
// record. from numbers the first; at is when they were accepted.
func writePuts(ctx context.Context, log wal.Log, from, n, together int, at time.Time) error {
	const perAppend = 4096
	partitions := log.Info().Partitions
	waiting := make([][]kv.Call, partitions)
	var entries []wal.NewEntry
	flush := func(p int) {
		calls := waiting[p]
		waiting[p] = nil
		rec := wal.Record{Kind: wal.KindKV, AcceptedAt: at.UnixMicro(), RoutingKey: calls[0].Mutations[0].ID}
		if len(calls) == 1 {
			rec.Token, rec.RequestHash = calls[0].Token, calls[0].Hash
			calls[0].Token, calls[0].Hash = wal.Token{}, wal.Hash{}
		}
		rec.Payload = kv.AppendPayload(nil, &kv.Payload{Calls: calls})
		entries = append(entries, wal.NewEntry{Partition: wal.Partition(p), Data: wal.AppendRecord(nil, &rec)})
	}
	send := func() error {
		for _, r := range log.Append(ctx, wal.Sync, entries) {
			if r.Err != nil {
				return fmt.Errorf("write the log that will be applied: %w", r.Err)
			}
		}
		entries = entries[:0]
		return nil
	}
	random := rand.New(rand.NewPCG(uint64(from), 1))
	for i := from; i < from+n; i++ {
		c := putCall(random, uint64(i), at.UnixMicro()+int64(i-from)%1_000_000)
		p := int(wal.PartitionOf(c.Mutations[0].ID, partitions))
		if waiting[p] = append(waiting[p], c); len(waiting[p]) == together {
			flush(p)
		}
		if len(entries) >= perAppend/together {
			if err := send(); err != nil {
				return err
			}
		}
	}
	for p := range waiting {
		if len(waiting[p]) > 0 {
			flush(p)
		}
	}
	return send()
}

// putCall is one put. The ids jump about the key space, the values do not
// compress, and the nonces are like those of the client: seconds first.
func putCall(random *rand.Rand, n uint64, at int64) kv.Call {
	value := make([]byte, valueBytes)
	for i := 0; i < len(value); i += 4 {
		binary.LittleEndian.PutUint32(value[i:], random.Uint32())
	}
	tok := wal.Token{GenerationTime: at}
	binary.BigEndian.PutUint32(tok.Nonce[:], uint32(at/1_000_000))
	binary.BigEndian.PutUint32(tok.Nonce[4:], random.Uint32())
	binary.BigEndian.PutUint64(tok.Nonce[8:], n)
	id := fmt.Appendf(nil, "record-%016x", n*0x9e3779b97f4a7c15)
	m := kv.Mutation{Op: kv.OpPut, ID: id, Items: []kv.Item{{Key: []byte("item"), Value: value}}}
	hash := wal.HashOf(1, func(x *wal.Hasher) {
		x.Blob(id)
		x.Blob(value)
	})
	return kv.Call{Token: tok, Hash: hash, Mutations: []kv.Mutation{m}}
}
