package waltest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Harness is a log under test.
type Harness struct {
	// Open returns a broker that holds nothing that the suite could meet. The
	// harness closes it when the test ends.
	Open func(t testing.TB) wal.Broker
	// Reopen models a restart: it ends the broker, by closing or by crashing, and
	// opens the same data again.
	Reopen func(t testing.TB, b wal.Broker) wal.Broker
	// Lacks names the cases that this log can't pass, each with the reason.
	Lacks map[string]string
}

// patience bounds how long a case waits for what must happen. It is no
// measurement: a log that is slower than this is broken or its machine is.
const patience = 60 * time.Second

type suite struct {
	*testing.T
	h   Harness
	ctx context.Context
	b   wal.Broker
}

// Run runs every case as a subtest.
func Run(t *testing.T, h Harness) {
	cases := []struct {
		name string
		run  func(*suite)
	}{
		{"RoundTrip", roundTrip},
		{"ResultPerEntry", resultPerEntry},
		{"PartitionsAndTopicsAreApart", partitionsApart},
		{"ConcurrentAppendersKeepTheirOrder", concurrentAppenders},
		{"LargeAndEmptyCalls", largeAndEmptyCalls},
		{"LargestRecord", largestRecord},
		{"BytesAreNotKept", bytesAreNotKept},
		{"BufferedAppendArrives", bufferedArrives},
		{"BufferedOutcomeIsTold", bufferedIsTold},
		{"CancelledBeforeAppend", cancelledBefore},
		{"CancelledDuringAppend", cancelledDuring},
		{"LogTime", logTime},

		{"ReadFromAnyOffset", readFromAnyOffset},
		{"ReadBeyondEnd", readBeyondEnd},
		{"ReadBlocksAndWakes", readBlocksAndWakes},
		{"ReadHonoursContext", readHonoursContext},
		{"ReaderDataLivesUntilNext", readerDataLives},
		{"ManyReadersSeeTheSame", manyReaders},

		{"Bounds", bounds},
		{"LastEndIsOfItsTime", lastEnd},
		{"LastBounds", lastBounds},
		{"OffsetAt", offsetAt},
		{"BarrierCoversAcknowledged", barrierCovers},
		{"NoSuchPartition", noSuchPartition},

		{"TrimMovesStart", trimMovesStart},
		{"TrimUnderReader", trimUnderReader},
		{"TrimSurvivesReopen", trimSurvivesReopen},
		{"EmptiedPartitionKeepsItsEnd", emptiedKeepsEnd},

		{"CreateIsIdempotent", createIdempotent},
		{"PartitionCountMismatch", partitionCount},
		{"OpenUnknownTopic", openUnknown},
		{"IncarnationSurvivesReopen", incarnationReopen},
		{"RecreatedTopicIsAnother", recreatedTopic},
		{"StaleHandleRefuses", staleHandle},
		{"ReopenKeepsAcknowledged", reopenKeeps},
		{"UseAfterClose", useAfterClose},
		{"CloseWakesReaders", closeWakesReaders},

		{"RandomProgram", randomProgram},
	}
	known := map[string]bool{}
	for _, c := range cases {
		known[c.name] = true
	}
	for name, reason := range h.Lacks {
		if !known[name] || reason == "" {
			t.Errorf("Lacks names %q with reason %q: no such case, or no reason", name, reason)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if reason, ok := h.Lacks[c.name]; ok {
				t.Skipf("lacking: %s", reason)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			t.Cleanup(cancel)
			c.run(&suite{T: t, h: h, ctx: ctx, b: h.Open(t)})
		})
	}
}

// topicName draws a name that no one else has.
func topicName() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return "headwater.test." + hex.EncodeToString(b[:]) + ".1"
}

func (s *suite) reopen() {
	s.Helper()
	s.b = s.h.Reopen(s.T, s.b)
}

func (s *suite) create(partitions int) wal.Log {
	s.Helper()
	return s.createNamed(topicName(), partitions)
}

func (s *suite) createNamed(name string, partitions int) wal.Log {
	s.Helper()
	l, err := s.b.Create(s.ctx, wal.TopicSpec{Name: name, Partitions: partitions})
	if err != nil {
		s.Fatalf("create: %v", err)
	}
	return l
}

func (s *suite) open(name string) wal.Log {
	s.Helper()
	l, err := s.b.Open(s.ctx, name)
	if err != nil {
		s.Fatalf("open: %v", err)
	}
	return l
}

// rec is a record's bytes. The logs take any bytes, but a Kafka log may look for
// its own barrier records, so they are real records.
func rec(format string, args ...any) []byte {
	return wal.AppendRecord(nil, &wal.Record{RoutingKey: []byte("k"), Kind: wal.KindMessage, Payload: fmt.Appendf(nil, format, args...)})
}

// say is the payload that rec made.
func (s *suite) say(data []byte) string {
	s.Helper()
	var r wal.Record
	if err := wal.DecodeRecord(data, &r); err != nil {
		s.Fatalf("record that was read does not decode: %v", err)
	}
	if r.Kind == wal.KindBarrier {
		return ""
	}
	return string(r.Payload)
}

// append1 appends one record durably and returns where it is.
func (s *suite) append1(l wal.Log, p wal.Partition, data []byte) wal.Offset {
	s.Helper()
	return s.appendAll(l, p, data)[0].Offset
}

// appendAll appends records in one call and fails unless all are acknowledged.
func (s *suite) appendAll(l wal.Log, p wal.Partition, datas ...[]byte) []wal.Result {
	s.Helper()
	entries := make([]wal.NewEntry, len(datas))
	for i, d := range datas {
		entries[i] = wal.NewEntry{Partition: p, Data: d}
	}
	results := l.Append(s.ctx, wal.Sync, entries)
	if len(results) != len(entries) {
		s.Fatalf("%d results for %d entries", len(results), len(entries))
	}
	for i, r := range results {
		if r.Err != nil {
			s.Fatalf("append entry %d: %v", i, r.Err)
		}
	}
	return results
}

func (s *suite) appendSaid(l wal.Log, p wal.Partition, says ...string) []wal.Offset {
	s.Helper()
	datas := make([][]byte, len(says))
	for i, x := range says {
		datas[i] = rec("%s", x)
	}
	var offsets []wal.Offset
	for _, r := range s.appendAll(l, p, datas...) {
		offsets = append(offsets, r.Offset)
	}
	return offsets
}

type got struct {
	offset  wal.Offset
	logTime int64
	say     string
}

// read returns n records from offset from, barrier records left out. It checks on
// the way that offsets rise and belong to the partition.
func (s *suite) read(l wal.Log, p wal.Partition, from wal.Offset, n int) []got {
	s.Helper()
	if n == 0 {
		return nil
	}
	r, err := l.Read(s.ctx, p, from)
	if err != nil {
		s.Fatalf("read from %d: %v", from, err)
	}
	defer s.closeReader(r)
	var out []got
	last := from - 1
	for len(out) < n {
		entries, err := r.Next(s.ctx)
		if err != nil {
			s.Fatalf("next after %d of %d records: %v", len(out), n, err)
		}
		if len(entries) == 0 {
			s.Fatal("next returned nothing and no error")
		}
		for _, e := range entries {
			if e.Partition != p {
				s.Fatalf("entry of partition %d while reading %d", e.Partition, p)
			}
			if e.Offset <= last {
				s.Fatalf("offset %d after %d", e.Offset, last)
			}
			last = e.Offset
			if x := s.say(e.Data); x != "" {
				out = append(out, got{offset: e.Offset, logTime: e.LogTime, say: x})
			}
		}
	}
	return out
}

func (s *suite) closeReader(r wal.Reader) {
	s.Helper()
	if err := r.Close(); err != nil {
		s.Errorf("close reader: %v", err)
	}
}

func (s *suite) bounds(l wal.Log, p wal.Partition) wal.Bounds {
	s.Helper()
	b, err := l.Bounds(s.ctx, p)
	if err != nil {
		s.Fatalf("bounds: %v", err)
	}
	return b
}

// wantSaid checks what a partition says from offset from on.
func (s *suite) wantSaid(l wal.Log, p wal.Partition, from wal.Offset, want ...string) {
	s.Helper()
	for i, g := range s.read(l, p, from, len(want)) {
		if i < len(want) && g.say != want[i] {
			s.Fatalf("record %d at offset %d says %q, want %q", i, g.offset, g.say, want[i])
		}
	}
}

// firstError is what reading at from comes to, whether Read or Next says so.
func (s *suite) firstError(l wal.Log, p wal.Partition, from wal.Offset) error {
	s.Helper()
	r, err := l.Read(s.ctx, p, from)
	if err != nil {
		return err
	}
	defer s.closeReader(r)
	_, err = r.Next(s.ctx)
	return err
}
