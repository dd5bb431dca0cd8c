package counter

import "github.com/headwater-db/headwater/wal"

// callForm is the version of the canonical form of a request, which its hash is made
// of. The first byte says which form it is:
//
//	0  an add under its own token: its content
//	1  an AddCounts: its adds as they were sent, in their order, each: its content, then
//	   0 (1 byte), or 1 and the 16 bytes of the nonce of its own token
//	2  AddAndGetCount: content | flags (1 byte: 1 floor, 2 ceiling, 4 saturate) | [floor] | [ceiling]
//	3  ClearCount: counter blob
//	4  ReserveCount: counter blob | amount | lease in microseconds
//	5  SettleReservation: counter blob | 16 bytes reservation | 1 (1 byte) for all of it, or 0 and the amount
//	6  CancelReservation: counter blob | 16 bytes reservation
//
// where the content of an add is: counter blob | delta | event time | time to live, both
// in microseconds, 0 for none. Numbers are varints as protobuf's sint64, a blob is its
// length, as a plain varint, and its bytes.
//
// An AddCount is an add under its own token. Which partitions an AddCounts falls into,
// and the times of tokens, are no part of the request.
const callForm = 1

const (
	formAdd  = 0
	formAdds = 1 // the others are numbered as their Op
)

// requestHash identifies what a token of the add's own is used for: the add, in
// whatever call it comes.
func (a *Add) requestHash() wal.Hash {
	return wal.HashOf(callForm, func(x *wal.Hasher) {
		x.Byte(formAdd)
		a.content(x)
	})
}

func (a *Add) content(x *wal.Hasher) {
	x.Blob(a.Counter)
	x.Ints(a.Delta, a.EventTime, a.TTL)
}

// beginAdds begins the form of an AddCounts.
func beginAdds(x *wal.Hasher) {
	x.Reset(callForm)
	x.Byte(formAdds)
}

// inAdds appends an add to the form of an AddCounts.
func (a *Add) inAdds(x *wal.Hasher) {
	a.content(x)
	if a.Token.IsZero() {
		x.Byte(0)
		return
	}
	x.Byte(1)
	x.Bytes(a.Token.Nonce[:])
}

// requestHash identifies a call that is not OpAdd.
func (c *Call) requestHash() wal.Hash {
	return wal.HashOf(callForm, func(x *wal.Hasher) {
		x.Byte(byte(c.Op))
		switch c.Op {
		case OpAddAndGet:
			c.Add.content(x)
			c.Bounds.content(x)
		case OpClear:
			x.Blob(c.Add.Counter)
		case OpReserve:
			x.Blob(c.Add.Counter)
			x.Int(c.Amount)
			x.Int(c.Lease.Microseconds())
		case OpSettle:
			x.Blob(c.Add.Counter)
			x.Bytes(c.Reservation[:])
			if c.All {
				x.Byte(1)
			} else {
				x.Byte(0)
				x.Int(c.Amount)
			}
		case OpCancel:
			x.Blob(c.Add.Counter)
			x.Bytes(c.Reservation[:])
		case OpAdd: // see beginAdds
		}
	})
}

func (b *Bounds) content(x *wal.Hasher) {
	var flags byte
	if b.HasFloor {
		flags |= 1
	}
	if b.HasCeiling {
		flags |= 2
	}
	if b.Saturate {
		flags |= 4
	}
	x.Byte(flags)
	if b.HasFloor {
		x.Int(b.Floor)
	}
	if b.HasCeiling {
		x.Int(b.Ceiling)
	}
}
