package decisions

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// Claim says that a process holds a partition.
type Claim struct {
	Process string // id of the process, another one after each start
	Home    string // id of the data directory that it applies to
	Address string // host:port of its internal listener; empty: it has none
	// Epoch is the claim's offset in the decisions topic. It is no part of the entry.
	Epoch wal.Offset
}

// claimVersion is the first byte of a payload.
const claimVersion = 1

// maxField bounds each field of a claim in bytes.
const maxField = 512

const (
	fieldProcess = 1 + iota
	fieldHome
	fieldAddress
)

func (c *Claim) fields() [3]*string { return [3]*string{&c.Process, &c.Home, &c.Address} }

// encode returns the payload of c.
func (c *Claim) encode() ([]byte, error) {
	b := []byte{claimVersion}
	for i, f := range c.fields() {
		if len(*f) > maxField || !utf8.ValidString(*f) {
			return nil, fmt.Errorf("field %d of a claim has %d bytes, or is no text; it takes %d", i+1, len(*f), maxField)
		}
		b = protowire.AppendTag(b, protowire.Number(fieldProcess+i), protowire.BytesType)
		b = protowire.AppendString(b, *f)
	}
	return b, nil
}

// decode reads what encode wrote, and passes over fields of newer builds.
// wal.ErrMalformed, wal.ErrUnknownVersion.
func decode(b []byte) (c Claim, err error) {
	if len(b) == 0 {
		return c, fmt.Errorf("%w claim: empty", wal.ErrMalformed)
	}
	if b[0] != claimVersion {
		return c, fmt.Errorf("%w: claim of version %d", wal.ErrUnknownVersion, b[0])
	}
	var bad protowire.Number
	err = fields(b[1:], func(num protowire.Number, _ uint64, bytes []byte) {
		switch {
		case num < fieldProcess || num > fieldAddress || bytes == nil:
		case len(bytes) > maxField || !utf8.Valid(bytes):
			bad = num
		default:
			*c.fields()[num-fieldProcess] = string(bytes)
		}
	})
	if err == nil && bad != 0 {
		err = fmt.Errorf("field %d has %d bytes or more, or is no text", bad, maxField)
	}
	if err != nil {
		return c, fmt.Errorf("%w claim: %w", wal.ErrMalformed, err)
	}
	return c, nil
}

// Append claims a partition of a namespace, whose decisions topic is log, and returns the
// claim with its epoch. It is durable then. A claim of unknown outcome is made again: of
// two, the newer counts.
func Append(ctx context.Context, log wal.Log, p wal.Partition, c Claim) (Claim, error) {
	payload, err := c.encode()
	if err != nil {
		return c, err
	}
	if c.Epoch, err = appendOne(ctx, log, p, wal.KindClaim, payload); err != nil {
		return c, fmt.Errorf("claim partition %d: %w", p, err)
	}
	return c, nil
}

// appendOne appends an entry, again and again while its outcome is not known.
func appendOne(ctx context.Context, log wal.Log, p wal.Partition, kind wal.Kind, payload []byte) (wal.Offset, error) {
	data := wal.AppendRecord(nil, &wal.Record{Kind: kind, Payload: payload})
	for {
		r := log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: p, Data: data}})[0]
		if !errors.Is(r.Err, wal.ErrUnknown) || ctx.Err() != nil {
			return r.Offset, r.Err
		}
	}
}
