// Command private serves one registry, kept in memory, at two free ports of loopback by HTTP: at one of them to
// everybody, to push to, at the other only to who gives a name and a password.
package main

import (
	"crypto/subtle"
	"flag"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

var (
	user     = flag.String("user", "", "name to be given")
	password = flag.String("password", "", "password to be given")
)

func main() {
	flag.Parse()
	images := registry.New()
	open, private := listen(), listen()
	go func() { log.Fatal(serve(private, guard(images))) }()
	log.Printf("private on port %d, serving on port %d", port(private), port(open))
	log.Fatal(serve(open, images))
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalf("could not listen on loopback: %v", err)
	}
	return listener
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

func serve(listener net.Listener, handler http.Handler) error {
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: handler}
	return server.Serve(listener)
}

// guard lets nobody through who does not give the name and the password.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		name, word, _ := request.BasicAuth()
		right := subtle.ConstantTimeCompare([]byte(name), []byte(*user)) &
			subtle.ConstantTimeCompare([]byte(word), []byte(*password))
		if right != 1 {
			answer.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(answer, "name and password, please", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(answer, request)
	})
}
