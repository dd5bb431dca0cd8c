package wal

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestPositionRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Position{Namespace: rapid.StringMatching("[a-z][a-z0-9-]{0,47}").Draw(t, "ns"), Offsets: map[Partition]Offset{}}
		copy(p.Incarnation[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "incarnation"))
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			p.Offsets[Partition(rapid.Uint32Range(0, maxPositionPartitions-1).Draw(t, "p"))] = Offset(rapid.Int64Range(-1, 1<<63-1).Draw(t, "o"))
		}
		back, err := ParsePosition(p.String())
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Fatalf("got %+v, %v; want %+v", back, err, p)
		}
	})
}

// TestPositionRefusesEveryChange flips every character of a position: none of
// the results may be read as a position.
func TestPositionRefusesEveryChange(t *testing.T) {
	t.Parallel()
	s := Position{Namespace: "plays", Incarnation: Incarnation{7}, Offsets: map[Partition]Offset{0: 5, 3: 1 << 40}}.String()
	for i := range s {
		for _, c := range []byte("Aq9-_.\n") {
			if s[i] == c {
				continue
			}
			bad := s[:i] + string(c) + s[i+1:]
			if _, err := ParsePosition(bad); !errors.Is(err, ErrMalformed) {
				t.Errorf("changed at %d to %q: %v", i, c, err)
			}
		}
	}
	for _, bad := range []string{"", "x", s + "A", s[:len(s)-1], " " + s} {
		if _, err := ParsePosition(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPositionMergeTakesTheMaximum(t *testing.T) {
	t.Parallel()
	p := Position{Offsets: map[Partition]Offset{0: 5, 1: 9}}
	p.Merge(Position{Offsets: map[Partition]Offset{0: 7, 1: 3, 2: 0}})
	if want := (map[Partition]Offset{0: 7, 1: 9, 2: 0}); !maps.Equal(p.Offsets, want) {
		t.Errorf("got %v, want %v", p.Offsets, want)
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add(NewPosition("demo-kv", Incarnation{1}, 3, 12).String())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		if again := p.String(); again != s {
			t.Fatalf("%q and %q are the same position", s, again)
		}
	})
}

// FuzzPositionBody is FuzzParsePosition behind the checksum, which mutations of the
// text do not come past.
func FuzzPositionBody(f *testing.F) {
	for _, p := range []Position{
		NewPosition("demo-kv", Incarnation{1}, 3, 12),
		{Offsets: map[Partition]Offset{}},
		{Namespace: "a", Offsets: map[Partition]Offset{0: NoOffset, 1: 300, 2: 0, maxPositionPartitions - 1: 1<<63 - 1}},
	} {
		b, err := decodeText(p.String())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := binary.BigEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
		s := base64.RawURLEncoding.EncodeToString(b)
		p, err := ParsePosition(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%x: %v is not ErrMalformed", body, err)
			}
			return
		}
		if again := p.String(); again != s {
			t.Fatalf("%q and %q are the same position", s, again)
		}
	})
}

func TestVersionOrder(t *testing.T) {
	t.Parallel()
	// Each is newer than the one before it: time, then delete over expiring over
	// live, then later expiry, then nonce.
	in := []Version{
		{}, {Nonce: Nonce{15: 1}}, {Class: Expiring, Expiry: 5}, {Class: Expiring, Expiry: 6}, {Class: Expiring, Expiry: 6, Nonce: Nonce{15: 2}},
		{Class: Deleted}, {Time: 1}, {Time: 1, Nonce: Nonce{1}}, {Time: 1, Class: Expiring, Expiry: 1}, {Time: 1, Class: Deleted}, {Time: 1 << 60},
	}
	for i := range in {
		for j := range in {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := in[i].Compare(in[j]); got != want {
				t.Errorf("%+v against %+v: %d, want %d", in[i], in[j], got, want)
			}
		}
		back, err := ParseVersion(in[i].String())
		if err != nil || back != in[i] {
			t.Errorf("%+v reads back as %+v, %v", in[i], back, err)
		}
	}
	for _, bad := range []string{"", "AAAA", in[3].String() + "A", in[3].String()[1:]} {
		if _, err := ParseVersion(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPartitionsNeverMove(t *testing.T) {
	t.Parallel()
	// Part of the data format: a change moves keys away from their records.
	for key, want := range map[string]Partition{"": 9, "ATL": 10, "user-1": 4, "\x00": 0} {
		if got := PartitionOf([]byte(key), 12); got != want || PartitionOfString(key, 12) != got {
			t.Errorf("%q is in partition %d of 12, want %d", key, got, want)
		}
	}
}
