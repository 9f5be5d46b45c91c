/*
 * init.c - the first program of the Linux that `./targe bench` measures. It makes what the others expect, runs
 * one of them and ends the machine. What to do comes behind `--` on the kernel's command line:
 *
 *     rows N PREFIX ...   run bench with N samples of these rows, each in a process of its own: what a row costs must
 *                         not depend on the memory that others have used, which fork copies
 *     net ADDRESS         bring up the network device with this address (/24) and run netserv
 *     xdp ADDRESS         the same, and echo UDP in the driver
 *     nginx ADDRESS       the same with nginx in netserv's place
 *
 * Build:  musl-gcc -O2 -static -o init init.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(const char *why)
{
    if (why) perror(why);
    sync();
    reboot(RB_AUTOBOOT);        /* QEMU runs with -no-reboot */
    for (;;) pause();
}

/* Modules are numbered in the order in which they need each other. */
static void load_modules(void)
{
    for (int i = 0; i < 32; i++) {
        char path[32];
        snprintf(path, sizeof path, "/modules/%d", i);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;   /* built into the kernel */
        if (syscall(SYS_finit_module, fd, "", 0)) end(path);
        close(fd);
    }
}

static void up(const char *name, const char *address)
{
    struct ifreq r;
    struct sockaddr_in a = { .sin_family = AF_INET };
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&r, 0, sizeof r);
    strcpy(r.ifr_name, name);
    inet_aton(address, &a.sin_addr);
    memcpy(&r.ifr_addr, &a, sizeof a);
    if (ioctl(s, SIOCSIFADDR, &r)) end(name);
    inet_aton(strcmp(name, "lo") ? "255.255.255.0" : "255.0.0.0", &a.sin_addr);
    memcpy(&r.ifr_netmask, &a, sizeof a);
    if (ioctl(s, SIOCSIFNETMASK, &r) || ioctl(s, SIOCGIFFLAGS, &r)) end(name);
    r.ifr_flags |= IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &r)) end(name);
    close(s);
}

static pid_t start(char **argv)
{
    pid_t p = fork();
    if (!p) { execv(argv[0], argv); perror(argv[0]); _exit(127); }
    return p;
}

static void run(char **argv)
{
    int status;
    waitpid(start(argv), &status, 0);
}

int main(int argc, char **argv)
{
    /* options that the kernel does not know come first */
    while (argc > 1 && strcmp(argv[1], "rows") && strcmp(argv[1], "net") && strcmp(argv[1], "xdp") &&
           strcmp(argv[1], "nginx")) { argc--; argv++; }
    mkdir("/proc", 0755); mkdir("/sys", 0755); mkdir("/tmp", 0755); mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, 0);
    mount("sysfs", "/sys", "sysfs", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    mount("tmpfs", "/tmp", "tmpfs", 0, 0);
    up("lo", "127.0.0.1");
    if (argc > 1 && !strcmp(argv[1], "rows")) {
        for (int i = 3; i < argc; i++) run((char *[]){ "/bin/bench", "-s", argv[2], argv[i], 0 });
    } else if (argc > 2) {
        load_modules();
        up("eth0", argv[2]);
        if (!strcmp(argv[1], "xdp")) start((char *[]){ "/bin/attach", "/bin/xdp", "eth0", 0 });
        if (!strcmp(argv[1], "nginx")) run((char *[]){ "/usr/sbin/nginx", "-c", "/etc/nginx.conf", 0 });
        else run((char *[]){ "/bin/netserv", "7", "80", 0 });
    }
    end(0);
}
