package wal_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestIdentitiesStay holds the identities that stores have saved.
func TestIdentitiesStay(t *testing.T) {
	n := wal.Nonce{0xde, 0xad, 0xbe, 0xef, 5, 15: 9}
	for _, c := range []struct {
		what, want string
		got        wal.TokenID
	}{
		{"of a key", "deadbeef9b1a635554403154b2424644", wal.IDOf([]byte("plays"), n)},
		{"of a call", "deadbeef5c4597450462ec0af15ca7c8", wal.CallIDOf([]byte("plays"), n)},
		{"of a long key", "deadbeeff93c3be09cf4fc41514dea44", wal.IDOf(bytes.Repeat([]byte("k"), 1024), n)},
		{"of no key", "deadbeef7688a258b7504e8be28d8f97", wal.IDOf(nil, n)},
	} {
		if got := c.got.String(); got != c.want {
			t.Errorf("identity %s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestAnIdentityIsOfKeyAndNonceAndKindOfWrite(t *testing.T) {
	a, b := wal.Nonce{1, 15: 1}, wal.Nonce{1, 15: 2}
	long := bytes.Repeat([]byte("k"), 129)
	seen := map[wal.TokenID]int{}
	all := []wal.TokenID{
		wal.IDOf([]byte("x"), a), wal.IDOf([]byte("y"), a), wal.IDOf([]byte("x"), b), wal.CallIDOf([]byte("x"), a), wal.CallIDOf([]byte("y"), a),
		wal.IDOf(nil, a), wal.IDOf(append([]byte("x"), 0), a), wal.IDOf(long[:128], a), wal.IDOf(long, a), wal.CallIDOf(long, a), wal.IDOf(long, b),
		wal.IDOf(append([]byte("x"), a[:]...), a),
	}
	for i, id := range all {
		if j, ok := seen[id]; ok {
			t.Errorf("identities %d and %d are one: %s", j, i, id)
		}
		seen[id] = i
		if id != all[i] || !bytes.Equal(id[:4], a[:4]) {
			t.Errorf("identity %d is %s: it begins as its nonce does", i, id)
		}
	}
}

func TestAnIdentityAllocatesNothing(t *testing.T) {
	for _, key := range [][]byte{[]byte("a record's id"), bytes.Repeat([]byte("k"), 1024)} {
		n := wal.NewNonce()
		if got := testing.AllocsPerRun(100, func() { _ = wal.IDOf(key, n); _ = wal.CallIDOf(key, n) }); got != 0 {
			t.Errorf("a key of %d bytes: %v allocations", len(key), got)
		}
	}
}

func BenchmarkIDOf(b *testing.B) {
	for _, size := range []int{16, 64, 1024} {
		key, n := bytes.Repeat([]byte("k"), size), wal.NewNonce()
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = wal.IDOf(key, n)
			}
		})
	}
}
