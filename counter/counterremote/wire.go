package counterremote

import (
	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

func entryTo(e *counter.TokenEntry) *clusterv1.TokenEntry {
	return &clusterv1.TokenEntry{
		Hash: e.Hash[:], Offset: int64(e.Offset), LogTime: e.LogTime, AcceptedAt: e.AcceptedAt, Time: e.Time, Outcome: uint32(e.Outcome),
		Value: e.Value, Held: e.Held, AppliedDelta: e.AppliedDelta, Violation: uint32(e.Violation), ExpiresAt: e.ExpiresAt, Ended: uint32(e.Ended),
	}
}

func entryFrom(id wal.TokenID, m *clusterv1.TokenEntry) (e counter.TokenEntry, err error) {
	e = counter.TokenEntry{
		ID: id, Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), AcceptedAt: m.GetAcceptedAt(), Time: m.GetTime(), Outcome: counter.Outcome(m.GetOutcome()),
		Value: m.GetValue(), Held: m.GetHeld(), AppliedDelta: m.GetAppliedDelta(), Violation: counter.Violation(m.GetViolation()),
		ExpiresAt: m.GetExpiresAt(), Ended: counter.ReservationState(m.GetEnded()),
	}
	e.Hash, err = remote.HashFrom(m.GetHash())
	return e, err
}

// stateTo is what callers are told of a state: how far it is, and when that was.
func stateTo(st *counter.State) *clusterv1.AsOf {
	return &clusterv1.AsOf{Applied: int64(st.Applied) + 1, LogTime: st.LogTime}
}

func stateFrom(m *clusterv1.AsOf) (st counter.State) {
	st.Applied, st.LogTime, st.Folded = wal.Offset(m.GetApplied())-1, m.GetLogTime(), wal.NoOffset
	return st
}

func countsTo(out []counter.Amount, st *counter.State) *clusterv1.Counts {
	m := &clusterv1.Counts{AsOf: stateTo(st), Values: make([]int64, len(out))}
	for i := range out {
		m.Values[i] = out[i].Value
		if out[i].Held != 0 && m.Held == nil {
			m.Held = make([]int64, len(out))
		}
		if m.Held != nil {
			m.Held[i] = out[i].Held
		}
	}
	return m
}
