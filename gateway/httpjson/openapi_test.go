package httpjson

import (
	"context"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestOpenAPIDocumentIsValidAndWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Version: "1.2.3"})
	a := f.do("GET", "/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData(a.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	for path := range f.handler.methods {
		if item := doc.Paths.Value(path); item == nil || item.Post == nil || item.Post.Responses.Default() == nil {
			t.Errorf("%s is not described", path)
		}
	}
	for path, item := range doc.Paths.Map() {
		if (item.Get == nil) != (item.Head == nil) {
			t.Errorf("%s: HEAD is not described where GET is", path)
		}
	}
	for path, methods := range map[string]string{
		"/v1/kv/{namespace}/{id}/{key}": "PUT GET DELETE", "/v1/kv/{namespace}/{id}": "DELETE",
		"/v1/counter/{namespace}/{counter}": "POST GET", "/v1/log/{namespace}/{key}": "POST", "/v1/log/{namespace}": "GET",
		"/openapi.json": "GET",
	} {
		for method := range strings.FieldsSeq(methods) {
			if doc.Paths.Value(path) == nil || doc.Paths.Value(path).GetOperation(method) == nil {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	if doc.Info.Version != "1.2.3" {
		t.Errorf("version %q", doc.Info.Version)
	}
	item := doc.Components.Schemas["Item"].Value
	for _, name := range []string{"key", "value", "version", "writtenAt", "expiresAt", "size", "chunked", "compression", "contentType"} {
		if item.Properties[name] == nil {
			t.Errorf("Item has no %s", name)
		}
	}
}
