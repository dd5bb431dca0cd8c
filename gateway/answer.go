package gateway

import (
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/kv"
)

// MaxAnswerBytes is what an answer to a call may have: a client of gRPC takes no
// more unless it was told to. Pages end before it.
const MaxAnswerBytes = 4 << 20

// MaxSentBytes is the largest message that is sent at all: one record, which is
// not divided, in ReadLog and ListDeadLetters. Clients take it if they are told to.
const MaxSentBytes = 16 << 20

// pageTail is kept of an answer for what stands beside the things of its page:
// as_of and next_page_token.
const pageTail = 32 << 10

// itemRoom says how many items go on a page: by what they count, as the caller has
// asked, and by what the answer takes. Both are of items as they are answered: one
// that the server unpacks may be thousands of times as large as it is stored. The
// first item always goes; see kv.MaxPageValue.
type itemRoom struct {
	bytes            int // that the caller asks for; 0: any
	counted, encoded int
	items            int
}

// take reports whether the item goes on the page, and counts it then.
func (r *itemRoom) take(key, value, encoded int) bool {
	counted := r.counted + key + value + kv.ItemOverhead
	if r.items > 0 && (r.bytes > 0 && counted > r.bytes || r.encoded+encoded > MaxAnswerBytes-pageTail) {
		return false
	}
	r.counted, r.encoded = counted, r.encoded+encoded
	r.items++
	return true
}

// listRoom says how many messages go on the page of a list. The first always goes.
type listRoom struct {
	bytes, n int
}

func (r *listRoom) take(m proto.Message) bool {
	size := proto.Size(m) + 8 // and its framing
	if r.n > 0 && r.bytes+size > MaxAnswerBytes-pageTail {
		return false
	}
	r.bytes += size
	r.n++
	return true
}

// whole returns an answer that is not paged if a client takes it.
func whole[M proto.Message](m M, instead string) (M, error) {
	var none M
	if n := proto.Size(m); n > MaxAnswerBytes {
		return none, apierrors.New(apierrors.AnswerTooLarge,
			"the answer would have %d bytes, and clients take %d; %s", n, MaxAnswerBytes, instead)
	}
	return m, nil
}
