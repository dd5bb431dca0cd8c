package clickhousestore

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Statement is SQL with its parameters. Bytes go as hex: what a parameter's text may
// not hold depends on the protocol.
type Statement struct {
	strings.Builder
	params clickhouse.Parameters
}

// Param is a parameter of a type of ClickHouse, as text.
func (q *Statement) Param(kind, value string) string {
	if q.params == nil {
		q.params = make(clickhouse.Parameters)
	}
	name := "p" + strconv.Itoa(len(q.params))
	q.params[name] = value
	return "{" + name + ":" + kind + "}"
}

// Addf appends SQL that is made of constants, numbers and parameters.
func (q *Statement) Addf(format string, args ...any) {
	_, _ = fmt.Fprintf(q, format, args...) // a builder takes everything
}

// Bytes is a String.
func (q *Statement) Bytes(b []byte) string {
	return "unhex(" + q.Param("String", hex.EncodeToString(b)) + ")"
}

// Number is an Int64.
func Number[T ~int64](v T) string { return strconv.FormatInt(int64(v), 10) }

// context is that of the statement: its parameters, and how long it may run.
func (q *Statement) context(ctx context.Context, limit time.Duration, more ...clickhouse.Settings) (context.Context, context.CancelFunc) {
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(d), time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	set := clickhouse.Settings{"max_execution_time": limit.Seconds()}
	for _, m := range more {
		maps.Copy(set, m)
	}
	o := []clickhouse.QueryOption{clickhouse.WithSettings(set)}
	if q.params != nil {
		o = append(o, clickhouse.WithParameters(q.params))
	}
	return clickhouse.Context(ctx, o...), cancel
}
