package proof

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// upload is one large value on its way, as its caller knows it. Each goes to an
// item of its own.
type upload struct {
	key           string
	value         []byte
	begin, commit *headwaterv1.IdempotencyToken
	id            string // once it has begun
	tried         bool   // the commit was sent
	version       string // once it is committed
}

const chunk = 256 << 10

// advance takes the upload to its end, or as far as the server lives. It begins
// anew what it does not know to be done: every step may be repeated.
func (u *upload) advance(c *conn) error {
	ctx, cancel := callContext()
	defer cancel()
	begun, err := c.kv.BeginUpload(ctx, &headwaterv1.BeginUploadRequest{Namespace: "demo-kv", Id: "large", Key: []byte(u.key), Size: int64(len(u.value)), Token: u.begin})
	if err != nil {
		return err
	}
	if u.id != "" && u.id != begun.UploadId {
		return fmt.Errorf("the upload of %s is %s, and was %s", u.key, begun.UploadId, u.id)
	}
	u.id = begun.UploadId
	chunks := (len(u.value) + chunk - 1) / chunk
	if u.version == "" {
		stream, err := c.kv.UploadChunk(ctx)
		if err != nil {
			return err
		}
		for i := range chunks {
			req := &headwaterv1.UploadChunkRequest{Namespace: "demo-kv", UploadId: u.id, Index: int32(i), Data: u.value[i*chunk : min(len(u.value), (i+1)*chunk)]}
			if err := stream.Send(req); err != nil {
				break // CloseAndRecv says why
			}
		}
		_, err = stream.CloseAndRecv()
		if e := apierrors.FromStatus(err); err != nil && !(u.tried && e.Reason == apierrors.UploadClosed) {
			return err
		}
	}
	sum := sha256.Sum256(u.value)
	u.tried = true
	r, err := c.kv.CommitUpload(ctx, &headwaterv1.CommitUploadRequest{Namespace: "demo-kv", UploadId: u.id, Chunks: int32(chunks), Size: int64(len(u.value)), Sha256: sum[:], Token: u.commit})
	if err != nil {
		return err
	}
	if u.version != "" && (u.version != r.Version || r.Result.Duplicate != headwaterv1.WriteResult_YES) {
		return fmt.Errorf("the commit of %s is version %s (%v), and was %s", u.key, r.Version, r.Result.Duplicate, u.version)
	}
	u.version = r.Version
	return nil
}

// read returns the value and version of the item, nil when it is absent.
func (u *upload) read(c *conn) (value []byte, version string, err error) {
	ctx, cancel := callContext()
	defer cancel()
	stream, err := c.kv.GetItem(ctx, &headwaterv1.GetItemRequest{Namespace: "demo-kv", Id: "large", Key: []byte(u.key)})
	for err == nil {
		var m *headwaterv1.GetItemResponse
		if m, err = stream.Recv(); err == nil {
			if h := m.GetHeader(); h != nil {
				version = h.Item.Version
			}
			value = append(value, m.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) || status.Code(err) == codes.NotFound {
		err = nil
	}
	return value, version, err
}

// verify compares what is stored with what the caller knows.
func (u *upload) verify(c *conn) error {
	value, version, err := u.read(c)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", u.key, err)
	case u.version != "" && (version != u.version || !bytes.Equal(value, u.value)):
		return fmt.Errorf("%s was committed as %s, and is %d bytes of version %q", u.key, u.version, len(value), version)
	case !u.tried && version != "":
		return fmt.Errorf("%s is visible and was never committed", u.key)
	case version != "" && !bytes.Equal(value, u.value):
		return fmt.Errorf("%s is visible in part: %d bytes of %d", u.key, len(value), len(u.value))
	}
	return nil
}

// TestKillDuringUpload kills the process while large values arrive: each is
// there as a whole or not at all, and goes on where it was cut off.
func TestKillDuringUpload(t *testing.T) {
	_, r := seedOf(t)
	rounds := 3
	if long() {
		rounds = 30
	}
	dir := t.TempDir()
	p := start(t, dir)
	var all []*upload
	for round := range rounds {
		c := connect(t, p.grpc)
		for i := range 4 {
			u := &upload{key: fmt.Sprintf("%d/%d", round, i), value: make([]byte, 1<<20+r.IntN(2<<20)), begin: nonceToken(wal.NewNonce(), 0), commit: nonceToken(wal.NewNonce(), 0)}
			fillRandom(r, u.value)
			all = append(all, u)
		}
		victim := p
		timer := time.AfterFunc(time.Duration(10+r.IntN(120))*time.Millisecond, func() { victim.kill(t) })
		advanceAll(t, c, all[len(all)-4:])
		timer.Stop()
		p.kill(t)
		c.close()

		p = start(t, dir)
		c = connect(t, p.grpc)
		for _, u := range all {
			if err := u.verify(c); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, p.said())
			}
		}
		for _, u := range all[len(all)-4:] {
			if u.key == fmt.Sprintf("%d/3", round) && !u.tried {
				continue // abandoned: it must never be seen
			}
			if err := u.advance(c); err != nil {
				t.Fatalf("round %d: go on with %s: %v\n%s", round, u.key, err, p.said())
			}
			if err := u.verify(c); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, p.said())
			}
			if err := u.advance(c); err != nil { // once more, all of it
				t.Fatalf("round %d: repeat %s: %v\n%s", round, u.key, err, p.said())
			}
		}
		c.close()
	}
}

// advanceAll runs uploads side by side. The only error that it takes is the end
// of the server.
func advanceAll(t *testing.T, c *conn, us []*upload) {
	t.Helper()
	var wg sync.WaitGroup
	for _, u := range us {
		wg.Go(func() {
			if err := u.advance(c); err != nil && status.Code(err) != codes.Unavailable && !errors.Is(err, context.Canceled) {
				t.Errorf("upload %s: %v", u.key, err)
			}
		})
	}
	wg.Wait()
}

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}
