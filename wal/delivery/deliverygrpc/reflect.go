package deliverygrpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/headwater-db/headwater/wal/delivery"
)

// requestType is that of a method's request.
type requestType struct {
	message protoreflect.MessageDescriptor
	types   *dynamicpb.Types
}

// encode reads JSON as the request of the method.
func (r *Receiver) encode(ctx context.Context, payload []byte) ([]byte, error) {
	t, err := r.requestType(ctx)
	if err != nil {
		return nil, err
	}
	m := dynamicpb.NewMessage(t.message)
	if err := (protojson.UnmarshalOptions{Resolver: t.types}).Unmarshal(payload, m); err != nil {
		return nil, &delivery.PermanentError{Err: fmt.Errorf("the payload is not JSON of %s: %w", t.message.FullName(), err)}
	}
	return proto.Marshal(m)
}

// requestType asks the receiver for the type of the request, once.
func (r *Receiver) requestType(ctx context.Context) (*requestType, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.request != nil {
		return r.request, nil
	}
	t, err := r.askType(ctx)
	if status.Code(err) == codes.Unimplemented {
		return nil, &delivery.PermanentError{Err: errNoReflection}
	}
	if err != nil {
		return nil, err
	}
	r.request = t
	return t, nil
}

var errNoReflection = errors.New("the payload is JSON, and the receiver has no server reflection that tells its type; send protobuf")

// maxFiles bounds the files that a receiver's answer may name.
const maxFiles = 1000

func (r *Receiver) askType(ctx context.Context) (*requestType, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	service, method, _ := strings.Cut(strings.TrimPrefix(r.cfg.Method, "/"), "/")
	files := make(map[string]*descriptorpb.FileDescriptorProto)
	ask := func(req *reflectionv1.ServerReflectionRequest) error {
		if err := stream.Send(req); err != nil {
			_, err = stream.Recv() // which says why
			return err
		}
		res, err := stream.Recv()
		if err != nil {
			return err
		}
		if e := res.GetErrorResponse(); e != nil {
			return status.Error(codes.Code(e.GetErrorCode()), e.GetErrorMessage()) //nolint:gosec // a code of gRPC
		}
		for _, b := range res.GetFileDescriptorResponse().GetFileDescriptorProto() {
			f := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(b, f); err != nil {
				return &delivery.PermanentError{Err: fmt.Errorf("what server reflection told is no file: %w", err)}
			}
			files[f.GetName()] = f
		}
		return nil
	}
	err = ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	})
	if status.Code(err) == codes.NotFound {
		return nil, &delivery.PermanentError{Err: fmt.Errorf("the receiver has no service %s", service)}
	}
	if err != nil {
		return nil, err
	}
	for missing := missingOf(files); missing != "" && len(files) < maxFiles; missing = missingOf(files) {
		err := ask(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: missing},
		})
		if err != nil {
			return nil, err
		}
		if files[missing] == nil {
			return nil, &delivery.PermanentError{Err: fmt.Errorf("server reflection does not tell file %s", missing)}
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range files {
		set.File = append(set.File, f)
	}
	all, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, &delivery.PermanentError{Err: fmt.Errorf("what server reflection told does not fit together: %w", err)}
	}
	d, err := all.FindDescriptorByName(protoreflect.FullName(service))
	s, is := d.(protoreflect.ServiceDescriptor)
	if err != nil || !is {
		return nil, &delivery.PermanentError{Err: fmt.Errorf("the receiver has no service %s", service)}
	}
	m := s.Methods().ByName(protoreflect.Name(method))
	if m == nil || m.IsStreamingClient() || m.IsStreamingServer() {
		return nil, &delivery.PermanentError{Err: fmt.Errorf("service %s has no unary method %s", service, method)}
	}
	return &requestType{m.Input(), dynamicpb.NewTypes(all)}, nil
}

// missingOf is a file that others import and that is not there; "": none.
func missingOf(files map[string]*descriptorpb.FileDescriptorProto) string {
	for _, f := range files {
		for _, name := range f.GetDependency() {
			if files[name] == nil {
				return name
			}
		}
	}
	return ""
}
