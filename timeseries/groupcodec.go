package timeseries

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/datasketches-go/common"
	"github.com/apache/datasketches-go/kll"
	"github.com/axiomhq/hyperloglog"

	"github.com/headwater-db/headwater/wal"
)

// partBytes is about how large a part of Parts is.
const partBytes = 1 << 20

// Parts calls f with an encoding of the groups, in parts of about a megabyte; MergePart of
// Groups of the same spec adds them. A part is valid during the call. It goes from one process
// to another of the cluster and is kept nowhere:
//
//	n times: bucket varint | key blob | a cell for each aggregation
//	cell: events uvarint, then, unless 0: by its operation
//
// where a blob is its length as a uvarint and its bytes.
func (g *Groups) Parts(f func(part []byte) error) error {
	var part []byte
	for key, group := range g.byKey {
		part = binary.AppendVarint(part, group.Bucket)
		part = appendBlob(part, []byte(key))
		for i := range group.cells {
			var err error
			if part, err = group.cells[i].append(part, g.spec.Aggregations[i].Op); err != nil {
				return err
			}
		}
		if len(part) >= partBytes {
			if err := f(part); err != nil {
				return err
			}
			part = part[:0]
		}
	}
	if len(part) == 0 {
		return nil
	}
	return f(part)
}

// MergePart adds what Parts gave. wal.ErrMalformed; ErrTooManyGroups, ErrGroupMemory.
func (g *Groups) MergePart(b []byte) error {
	d := decoder{b: b}
	for len(d.b) > 0 {
		bucket := d.int()
		key := d.blob()
		if d.bad || !g.wellFormed(key) {
			return fmt.Errorf("%w groups: key", wal.ErrMalformed)
		}
		g.key = append(g.key[:0], key...)
		group := g.byKey[string(g.key)]
		if group == nil {
			var err error
			if group, err = g.add(bucket); err != nil {
				return err
			}
		}
		for i := range group.cells {
			a := &g.spec.Aggregations[i]
			size := len(d.b)
			theirs, err := d.cell(a.Op)
			if err == nil && (a.Op == Distinct || a.Op == Quantile) {
				err = g.spec.take(size - len(d.b))
			}
			if err != nil {
				return err
			}
			if err := group.cells[i].merge(g.spec, a, &theirs); err != nil {
				return err
			}
		}
	}
	return nil
}

// wellFormed reports whether a key is one that Add makes.
func (g *Groups) wellFormed(key []byte) bool {
	if g.buckets != nil {
		if len(key) < 8 {
			return false
		}
		key = key[8:]
	}
	for range g.spec.By {
		n, size := binary.Uvarint(key)
		if size <= 0 {
			return false
		}
		key = key[size:]
		if n > 0 {
			if n-1 > uint64(len(key)) {
				return false
			}
			key = key[n-1:]
		}
	}
	return len(key) == 0
}

func appendDouble(dst []byte, x float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(x))
}

// append appends the encoding of a cell.
func (c *cell) append(dst []byte, op AggregateOp) ([]byte, error) {
	dst = binary.AppendUvarint(dst, c.n)
	if c.n == 0 {
		return dst, nil
	}
	switch op {
	case Count:
	case Sum, Avg:
		dst = binary.BigEndian.AppendUint64(dst, uint64(c.high))
		dst = binary.BigEndian.AppendUint64(dst, c.low)
		dst = appendDouble(appendDouble(dst, c.sum), c.rest)
	case Min, Max:
		dst = appendDouble(dst, c.number)
	case First, Last:
		dst = appendDouble(dst, c.number)
		dst = binary.AppendVarint(dst, c.place.Time)
		dst = appendBlob(appendBlob(dst, c.place.Series), c.place.ID)
	case Distinct:
		if c.hll == nil {
			dst = binary.AppendUvarint(append(dst, 0), uint64(len(c.set)))
			for text := range c.set {
				dst = appendBlob(dst, []byte(text))
			}
			return dst, nil
		}
		b, err := c.hll.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("encode an estimate: %w", err)
		}
		dst = appendBlob(append(dst, 1), b)
	case Quantile:
		if c.kll == nil {
			dst = binary.AppendUvarint(append(dst, 0), uint64(len(c.numbers)))
			for _, x := range c.numbers {
				dst = appendDouble(dst, x)
			}
			return dst, nil
		}
		b, err := c.kll.ToSlice()
		if err != nil {
			return nil, fmt.Errorf("encode an estimate: %w", err)
		}
		dst = appendBlob(append(dst, 1), b)
	}
	return dst, nil
}

// decoder reads numbers and blobs; bad once one is not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.take(-1)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.take(-1)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) word() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) double() float64 { return math.Float64frombits(d.word()) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) blob() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.take(-1)
		return nil
	}
	return d.take(int(n))
}

// count reads how many things of at least size bytes follow.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.take(-1)
		return 0
	}
	return int(n)
}

// cell reads what append wrote.
func (d *decoder) cell(op AggregateOp) (c cell, err error) {
	if c.n = d.uint(); c.n > 0 {
		switch op {
		case Count:
		case Sum, Avg:
			c.high, c.low = int64(d.word()), d.word()
			c.sum, c.rest = d.double(), d.double()
		case Min, Max:
			c.number = d.double()
		case First, Last:
			c.number = d.double()
			c.place = &Place{Time: d.int(), Series: append([]byte(nil), d.blob()...), ID: append([]byte(nil), d.blob()...)}
		case Distinct:
			err = d.distinct(&c)
		case Quantile:
			err = d.numbers(&c)
		}
	}
	if d.bad {
		err = fmt.Errorf("%w groups: they end early", wal.ErrMalformed)
	}
	return c, err
}

func (d *decoder) distinct(c *cell) error {
	if d.byte() == 0 {
		n := d.count(1)
		c.set = make(map[string]struct{}, n)
		for range n {
			c.set[string(d.blob())] = struct{}{}
		}
		return nil
	}
	b := d.blob()
	return estimateFrom(func() error {
		c.hll = &hyperloglog.Sketch{}
		return c.hll.UnmarshalBinary(b)
	})
}

// estimateFrom reads an estimate by its library, which panics at some of what no library wrote.
func estimateFrom(read func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w estimate: %v", wal.ErrMalformed, r)
		}
	}()
	if err := read(); err != nil {
		return fmt.Errorf("%w estimate: %w", wal.ErrMalformed, err)
	}
	return nil
}

func (d *decoder) numbers(c *cell) error {
	if d.byte() == 0 {
		n := d.count(8)
		c.numbers = make([]float64, n)
		for i := range c.numbers {
			c.numbers[i] = d.double()
		}
		return nil
	}
	b := d.blob()
	return estimateFrom(func() (err error) {
		c.kll, err = kll.NewKllItemsSketchFromSlice(b, common.ItemSketchDoubleComparator(false), common.ItemSketchDoubleSerDe{})
		return err
	})
}
