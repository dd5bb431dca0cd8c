package main

import (
	"compress/gzip"
	"errors"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// notSettings are parameters of a request's address that say how to answer.
var notSettings = map[string]bool{
	"query": true, "default_format": true, "client_protocol_version": true, "database": true, "query_id": true, "session_id": true, "compress": true,
	"decompress": true, "user": true, "password": true, "session_timeout": true, "http_client_protocol_version": true,
}

// ServeHTTP answers one statement.
func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format, out, err := e.answer(r)
	if err != nil {
		w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(codeOf(err)))
		w.WriteHeader(http.StatusInternalServerError)
		out = []byte(err.Error())
		if r.URL.Query().Get("compress") == "1" {
			c := compress.NewWriter(0, compress.LZ4)
			if err := c.Compress(out); err == nil {
				out = c.Data
			}
		}
	} else {
		w.Header().Set("X-ClickHouse-Format", format)
	}
	if _, err := w.Write(out); err != nil {
		log.Println("http: the caller has gone away:", err)
	}
}

func (e *engine) answer(r *http.Request) (format string, out []byte, err error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(r.Body); err != nil {
			return "", nil, err
		}
	}
	v := r.URL.Query()
	if v.Get("decompress") == "1" {
		body = compress.NewReader(body)
	}
	data, err := io.ReadAll(body)
	if err != nil && !errors.Is(err, io.EOF) { // the end comes wrapped from a compressed body
		return "", nil, err
	}
	q, settings := v.Get("query"), map[string]string{}
	for k := range v {
		if !notSettings[k] {
			settings[k] = v.Get(k)
		}
	}
	if into, ok := insertOf(q); ok && len(data) > 0 {
		return "TabSeparated", nil, e.insert(into, data, settings)
	}
	if q = strings.TrimSpace(q + "\n" + string(data)); q == "" {
		return "TabSeparated", []byte("Ok.\n"), nil
	}
	if format = v.Get("default_format"); format == "" {
		format = "TabSeparated"
	}
	if out, _, err = e.run(q, format, settings); err != nil {
		return "", nil, err
	}
	revision, err := strconv.ParseUint(v.Get("client_protocol_version"), 10, 64)
	if format != "Native" || err != nil || revision == 0 {
		return format, out, nil //nolint:nilerr // A caller that names no revision takes the engine's own bytes.
	}
	bs, err := blocks(out)
	var o proto.Buffer
	for _, b := range bs {
		err = errors.Join(err, b.Encode(&o, revision))
	}
	if err != nil || v.Get("compress") != "1" || len(o.Buf) == 0 {
		return format, o.Buf, err
	}
	c := compress.NewWriter(0, compress.LZ4)
	err = c.Compress(o.Buf)
	return format, c.Data, err
}
