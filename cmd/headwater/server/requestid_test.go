package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestEveryErrorNamesItsRequest: what a caller reports is found in the server's
// log, whichever way the request came.
func TestEveryErrorNamesItsRequest(t *testing.T) {
	t.Parallel()
	var out logged
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer closeServer(t, s)
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the server is closed next
	unary := func(ctx context.Context) error {
		_, err := headwaterv1.NewKeyValueServiceClient(conn).GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "nowhere"})
		return err
	}
	stream := func(ctx context.Context) error {
		r, err := headwaterv1.NewLogServiceClient(conn).ReadLog(ctx, &headwaterv1.ReadLogRequest{Namespace: "nowhere"})
		if err == nil {
			_, err = r.Recv()
		}
		return err
	}
	for name, ask := range map[string]func(context.Context) error{"unary": unary, "stream": stream} {
		err := ask(t.Context())
		if err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("%s: %v", name, err)
		}
		id := apierrors.FromStatus(err).Metadata["requestId"]
		if id == "" || !strings.Contains(out.String(), "request_id="+id) {
			t.Errorf("%s: the error has request id %q, and the log\n%s", name, id, out.String())
		}
		err = ask(metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "mine-"+name))
		if got := apierrors.FromStatus(err).Metadata["requestId"]; got != "mine-"+name {
			t.Errorf("%s: the id that was sent comes back as %q", name, got)
		}
	}
	r := send(t, s, http.MethodGet, "/v1/kv/nowhere/id/key", "")
	if id := r.field(t, "requestId"); id != r.header.Get("X-Request-Id") || !strings.Contains(out.String(), "request_id="+id.(string)) {
		t.Errorf("request id over HTTP is %v", id)
	}
	if m := r.field(t, "metadata").(map[string]any); len(m) != 0 {
		t.Errorf("metadata over HTTP repeats what is beside it: %v", m)
	}
}
