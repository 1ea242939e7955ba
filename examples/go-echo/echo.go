// An echo server, the master, and a program that pings it, the slaves.
//
//	echo master PORT PINGS
//	echo slave ADDRESS PORT PINGS
//
// The master serves SYNDICATE_MACHINES - 1 slaves at once and ends with status 0 when each has
// sent all its pings.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	size = 64
	// A slave may still be compiling when the master waits for it.
	patience = 3 * time.Minute
	// For all the pings of one slave.
	deadline = time.Minute
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func master(port string, pings int) error {
	machines, err := strconv.Atoi(env("SYNDICATE_MACHINES", "2"))
	if err != nil {
		return err
	}
	expected := machines - 1
	listener, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	fmt.Printf("waiting for %d slaves on port %s\n", expected, port)
	ends := make(chan error)
	for i := 0; i < expected; i++ {
		link, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Println("a slave has come from", link.RemoteAddr())
		go func() { ends <- serve(link, int64(pings)*size) }()
	}
	whole := 0
	for i := 0; i < expected; i++ {
		if err := <-ends; err != nil {
			fmt.Fprintln(os.Stderr, "master:", err)
		} else {
			whole++
		}
	}
	fmt.Printf("%d of %d slaves sent all their %d pings\n", whole, expected, pings)
	if whole < expected {
		return fmt.Errorf("%d slaves were lost", expected-whole)
	}
	return nil
}

func serve(link net.Conn, expected int64) error {
	defer link.Close()
	if err := link.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	echoed, err := io.Copy(link, link)
	if err == nil && echoed != expected {
		err = fmt.Errorf("%v sent %d of %d bytes", link.RemoteAddr(), echoed, expected)
	}
	return err
}

func connect(address string) (net.Conn, error) {
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		link, err := net.DialTimeout("tcp4", address, 2*time.Second)
		if err == nil || time.Now().After(until) {
			return link, err
		}
	}
}

func slave(address string, pings int) error {
	link, err := connect(address)
	if err != nil {
		return err
	}
	defer link.Close()
	if err := link.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	var total, longest time.Duration
	echo := make([]byte, size)
	for i := 0; i < pings; i++ {
		ping := bytes.Repeat([]byte{byte('a' + i%26)}, size)
		started := time.Now()
		if _, err := link.Write(ping); err != nil {
			return err
		}
		if _, err := io.ReadFull(link, echo); err != nil {
			return err
		}
		took := time.Since(started)
		if !bytes.Equal(ping, echo) {
			return fmt.Errorf("echo %d is not what was sent", i)
		}
		total += took
		if took > longest {
			longest = took
		}
	}
	fmt.Printf("%d pings to %s: %v on average, %v at most\n",
		pings, address, total/time.Duration(pings), longest)
	return nil
}

func run(args []string) error {
	fmt.Printf("I am %s at %s, uid %d\n", env("SYNDICATE_MACHINE", "by hand"),
		env("SYNDICATE_ADDRESS", "any address"), os.Getuid())
	pings, err := strconv.Atoi(args[len(args)-1])
	if err != nil {
		return err
	}
	if args[0] == "master" {
		return master(args[1], pings)
	}
	return slave(net.JoinHostPort(args[1], args[2]), pings)
}

func main() {
	args := os.Args[1:]
	if !(len(args) == 3 && args[0] == "master" || len(args) == 4 && args[0] == "slave") {
		fmt.Fprintln(os.Stderr, "usage: echo master PORT PINGS | echo slave ADDRESS PORT PINGS")
		os.Exit(2)
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, args[0]+":", err)
		os.Exit(1)
	}
}
