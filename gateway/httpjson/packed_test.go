package httpjson

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// packed is b in an encoding.
func packed(t testing.TB, encoding string, b []byte) string {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	default:
		t.Fatalf("no encoding %s", encoding)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBodiesMayBePacked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{MaxMessageBytes: 64 << 10, MaxValueBytes: 16 << 10, MaxStreamBytes: 256 << 10})
	f.log.write = func(req *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
		return &headwaterv1.WriteToLogResponse{
			Durable: headwaterv1.WriteToLogResponse_SUCCEEDED, Message: fmt.Sprint(len(req.GetPayload())),
		}, nil
	}
	value := bytes.Repeat([]byte("headwater"), 1000)
	line := `{"data":"` + strings.Repeat("QUJD", 1000) + `"}` + "\n"
	for _, encoding := range []string{"gzip", "zstd"} {
		for _, name := range []string{encoding, strings.ToUpper(encoding)} {
			a := f.do("PUT", "/v1/kv/n/i/"+encoding, packed(t, encoding, value), "Content-Encoding", name)
			if a.StatusCode != 204 || !bytes.Equal(f.kv.puts[len(f.kv.puts)-1].GetItems()[0].GetValue(), value) {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
			}
		}
		a := f.do("POST", putPath, packed(t, encoding, []byte(jsonPut(value))), "Content-Encoding", encoding)
		if a.StatusCode != 200 || !bytes.Equal(f.kv.puts[len(f.kv.puts)-1].GetItems()[0].GetValue(), value) {
			t.Errorf("%s: %d %s", encoding, a.StatusCode, a.body)
		}
		a = f.do("POST", "/v1/log/n/k", packed(t, encoding, value), "Content-Encoding", encoding)
		if a.StatusCode != 200 || decodeObject(t, a.body)["message"] != "9000" {
			t.Errorf("%s: %d %s", encoding, a.StatusCode, a.body)
		}
		a = f.do("POST", chunkPath, packed(t, encoding, []byte(strings.Repeat(line, 5))), "Content-Encoding", encoding)
		if a.StatusCode != 200 || decodeObject(t, a.body)["chunksReceived"] != float64(5) {
			t.Errorf("%s: %d %s", encoding, a.StatusCode, a.body)
		}
	}
	writes := len(f.kv.puts)
	for _, encoding := range []string{"gzip", "zstd"} {
		// Each is a few hundred bytes, and above its limit when it is unpacked.
		for path, size := range map[string]int{"/v1/kv/n/i/bomb": 17 << 10, "/v1/log/n/bomb": 65 << 10,
			putPath: 4 << 20} {
			method := map[bool]string{true: "PUT", false: "POST"}[strings.HasPrefix(path, "/v1/kv")]
			body := packed(t, encoding, bytes.Repeat([]byte(" "), size))
			f.do(method, path, body, "Content-Encoding", encoding).wantError(t, 413, apierrors.RequestTooLarge)
		}
		bomb := packed(t, encoding, []byte(strings.Repeat(line, 100)))
		f.do("POST", chunkPath, bomb, "Content-Encoding", encoding).wantError(t, 413, apierrors.RequestTooLarge)

		good := packed(t, encoding, []byte(`{"namespace":"n"}`))
		for what, body := range map[string]string{
			"plain": "{}", "half": good[:len(good)/2], "more behind it": good + "more",
			"changed": strings.Replace(good, good[len(good)-8:], "xxxxxxxx", 1),
		} {
			for _, path := range []string{putPath, chunkPath} {
				a := f.do("POST", path, body, "Content-Encoding", encoding)
				if got := a.wantError(t, 400, apierrors.MalformedRequest); got["outcome"] != "NOT_APPLIED" {
					t.Errorf("%s, %s: %s", encoding, what, a.body)
				}
			}
		}
	}
	f.do("POST", chunkPath, "", "Content-Encoding", "gzip").wantError(t, 400, apierrors.MalformedRequest)
	for _, other := range []string{"br", "deflate", "gzip, zstd", "gzip;q=1", "s2"} {
		a := f.do("POST", putPath, `{}`, "Content-Encoding", other)
		a.wantError(t, 400, apierrors.UnsupportedCompression)
		if a.Header.Get("Accept-Encoding") != "gzip, zstd" {
			t.Errorf("%q: what is accepted is not told: %v", other, a.Header)
		}
	}
	a := f.do("POST", putPath, `{}`, "Content-Encoding", "gzip", "Content-Encoding", "zstd")
	a.wantError(t, 400, apierrors.UnsupportedCompression)
	if len(f.kv.puts) != writes {
		t.Errorf("%d of what was refused reached the handler", len(f.kv.puts)-writes)
	}
	// A window is memory: what asks for more than 8 MiB of it is refused.
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // not one write, which would say its size
		if _, err := w.Write([]byte(" ")); err != nil || w.Flush() != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f.do("POST", putPath, out.String(), "Content-Encoding", "zstd").wantError(t, 413, apierrors.RequestTooLarge)
}
