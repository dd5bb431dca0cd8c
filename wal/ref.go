package wal

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Ref names one mutation of one record: the place where it can be read again.
type Ref struct {
	Partition Partition `json:"partition"`
	Offset    Offset    `json:"offset"`
	Index     int       `json:"index"` // of the mutation in its record, or WholeRecord
}

// WholeRecord is the index of a record that could not be taken apart.
const WholeRecord = -1

// String is the id of the dead letter at r: "partition-offset-index", or
// "partition-offset" for a whole record.
func (r Ref) String() string {
	if r.Index == WholeRecord {
		return fmt.Sprintf("%d-%d", r.Partition, r.Offset)
	}
	return fmt.Sprintf("%d-%d-%d", r.Partition, r.Offset, r.Index)
}

// Compare orders refs by partition and place in the log, a whole record behind
// its mutations.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(cmp.Compare(r.Partition, o.Partition), cmp.Compare(r.Offset, o.Offset), cmp.Compare(uint32(r.Index), uint32(o.Index)))
}

// ParseRef reads what String wrote.
func ParseRef(s string) (Ref, error) {
	parts := strings.Split(s, "-")
	if len(parts) == 2 {
		r, err := ParseRef(s + "-0")
		r.Index = WholeRecord
		return r, err
	}
	if len(parts) != 3 {
		return Ref{}, fmt.Errorf("%w dead letter id: want partition-offset-index", ErrMalformed)
	}
	p, err1 := strconv.ParseUint(parts[0], 10, 32)
	o, err2 := strconv.ParseInt(parts[1], 10, 64)
	i, err3 := strconv.ParseUint(parts[2], 10, 31)
	if err1 != nil || err2 != nil || err3 != nil || o < 0 {
		return Ref{}, fmt.Errorf("%w dead letter id: want partition-offset-index", ErrMalformed)
	}
	return Ref{Partition: Partition(p), Offset: Offset(o), Index: int(i)}, nil
}
