package decisions

import (
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Standing is what the entries of a partition come to, up to some place of its decisions topic: whoever reads
// them gets the same.
type Standing struct {
	Claim  Claim // the newest; its Epoch is wal.NoOffset where there is none
	Marked bool  // a mark counts; what follows is of those that count, and zero before the first
	// To is up to where the newest mark says that all is decided.
	To wal.Offset
	// LogTime, Step, Applied, Life, Letters and Parked are those of the newest mark; MaxTime and Gone the largest of any.
	LogTime, MaxTime, Gone int64
	Step                   uint64
	Applied, Letters       wal.Offset
	Parked                 wal.Offset // wal.NoOffset for none
	Life                   string
	Sources                consumers.Sources // of any mark: what has come

	// Read is the entry that this is as of, and ReadTime when the brokers took it, in microseconds since 1970.
	Read     wal.Offset
	ReadTime int64

	entries int // since the newest claim
	// claims are places where a reader may begin, the newest last; at most maxClaims.
	claims []claimAt
}

// claimAt is a claim, and up to where all was decided before it.
type claimAt struct{ at, to wal.Offset }

const maxClaims = 64

func newStanding() Standing {
	return Standing{Claim: Claim{Epoch: wal.NoOffset}, To: wal.NoOffset, Applied: wal.NoOffset, Letters: wal.NoOffset, Parked: wal.NoOffset, Read: wal.NoOffset}
}

// take takes an entry into account. m is the mark that it is, if it is one that counts: its range begins
// where the last one ended, and its owner's claim is the newest before it. A barrier is nothing.
func (s *Standing) take(e *wal.Entry) (m *Mark, claimed bool, err error) {
	var rec wal.Record
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return nil, false, err
	}
	s.entries++
	s.Read, s.ReadTime = e.Offset, e.LogTime
	switch rec.Kind {
	case wal.KindBarrier:
		return nil, false, nil
	case wal.KindClaim:
		c, err := decode(rec.Payload)
		if err != nil {
			return nil, false, err
		}
		c.Epoch = e.Offset
		s.Claim, s.entries = c, 0
		s.claims = append(s.claims, claimAt{e.Offset, s.To})
		s.claims = s.claims[max(0, len(s.claims)-maxClaims):]
		return nil, true, nil
	case wal.KindMark:
		m, err := decodeMark(rec.Payload)
		if err != nil {
			return nil, false, err
		}
		if m.Epoch != s.Claim.Epoch || s.Marked && m.From != s.To+1 {
			return nil, false, nil
		}
		s.count(&m)
		return &m, false, nil
	default:
		return nil, false, fmt.Errorf("%w: a record of kind %s", wal.ErrMalformed, rec.Kind)
	}
}

func (s *Standing) count(m *Mark) {
	s.Marked, s.To = true, m.To
	s.LogTime, s.MaxTime, s.Gone = max(s.LogTime, m.LogTime), max(s.MaxTime, m.MaxTime), max(s.Gone, m.Gone)
	s.Step, s.Applied, s.Life, s.Letters, s.Parked = m.Step, m.Applied, m.Life, m.Letters, m.Parked
	if m.Sources != s.Sources { // most have the same
		s.Sources = s.Sources.Merge(m.Sources)
	}
}

// Foreign reports whether a ledger in state st has what nobody has decided: it is a copy, or another namespace's. What a
// store that keeps no marks had decided before a promotion is told by the next mark.
func (s *Standing) Foreign(st *consumers.State) bool {
	return s.Marked && st.Applied > s.To && !st.Follows && st.Step <= s.Step
}

// Entries is how many stand behind the newest claim.
func (s *Standing) Entries() int { return s.entries }

// trimTo is the newest claim behind marks of records below start alone, and before one that counts, so that who reads
// from there on knows what was decided, and misses nothing about the records from start on. wal.NoOffset: there is none.
func (s *Standing) trimTo(start wal.Offset) wal.Offset {
	to := wal.NoOffset
	for _, c := range s.claims {
		if c.to < min(start, s.To) {
			to = c.at
		}
	}
	return to
}
