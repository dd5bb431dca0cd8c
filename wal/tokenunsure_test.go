package wal_test

import (
	"errors"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestTheLaterOfTwoRequestsDoesNotRefuseTheFirst: while nobody can be asked about a token, another request under it is
// appended. A copy of the first is not told then that its token is another's.
func TestTheLaterOfTwoRequestsDoesNotRefuseTheFirst(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		s := newStream(t, wal.StreamConfig{})
		id := wal.TokenID{1}
		r, owner, err := s.TryReserve(0, id, wal.Hash{1, 2})
		if err != nil || !owner {
			t.Fatal(owner, err)
		}
		if _, _, err := s.TryReserve(0, id, wal.Hash{1, 1}); !errors.Is(err, wal.ErrTokenReused) {
			t.Errorf("beside a request in hand: %v", err)
		}
		r.Asked = asked
		if _, err := s.Append(t.Context(), 0, &wal.Record{Kind: wal.KindMessage}, r); err != nil {
			t.Fatal(err)
		}
		want := wal.ErrTokenUnsure
		if asked {
			want = wal.ErrTokenReused
		}
		if _, _, err := s.TryReserve(0, id, wal.Hash{1, 1}); !errors.Is(err, want) {
			t.Errorf("asked %v: %v", asked, err)
		}
	}
}
