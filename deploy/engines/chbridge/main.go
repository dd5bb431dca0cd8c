package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: chbridge LIBRARY DATADIR HTTP_ADDRESS NATIVE_ADDRESS")
	}
	e, err := openEngine(args[0], args[1])
	if err != nil {
		return err
	}
	if err := e.clean(); err != nil {
		return err
	}
	native, err := net.Listen("tcp", args[3])
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() {
		for {
			c, err := native.Accept()
			if err != nil {
				failed <- err
				return
			}
			go e.serveNative(c)
		}
	}()
	go func() {
		s := &http.Server{Addr: args[2], Handler: e, ReadHeaderTimeout: time.Minute}
		failed <- s.ListenAndServe()
	}()
	return <-failed
}
