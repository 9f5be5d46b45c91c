# The checker, in the middle of a running machine: it finds nothing wrong, and whatever one word of what it compares
# is falsified it finds that (test_checker.py). Each line of output is `check NAME: COUNT`.
define falsify
  # $arg0: a name, $arg1: an lvalue, $arg2: what it becomes
  set $was = $arg1
  set var $arg1 = $arg2
  printf "check $arg0: %ld\n", check_machine()
  set var $arg1 = $was
end
set $memory = 0xffff800000000000
hbreak call_console_write
ignore 1 2
continue
delete
printf "check at first: %ld\n", check_machine()
set $env = (struct env *)($memory + ((unsigned long)info->first_env << 12))
set $flow = (struct flow *)($memory + ((unsigned long)info->first_flow << 12))
while !$flow->ring
  set $flow = (struct flow *)($memory + ((unsigned long)$flow->next << 12))
end
set $root = (unsigned long *)($memory + ((unsigned long)$env->root << 12))
set $inner = (unsigned long *)($memory + ($root[0] & 0xffffffffff000))
set $inner = (unsigned long *)($memory + ($inner[0] & 0xffffffffff000))
set $leaf = (unsigned long *)($memory + ($inner[0] & 0xffffffffff000))
set $i = 0
while !($leaf[$i] & 1)
  set $i = $i + 1
end
set $mapped = ($leaf[$i] & 0xffffffffff000) >> 12
falsify bindings page_array[$mapped].state (page_array[$mapped].state+0x100000000)
falsify pins page_array[$mapped].state (page_array[$mapped].state+0x10000)
falsify type page_array[$mapped].state (page_array[$mapped].state+1)
falsify owner page_array[$mapped].owner 0
falsify list $env->pages ($env->pages+1)
falsify entry $leaf[$i] 0
falsify mapped_twice $leaf[$i] ($leaf[$i]+0x1000)
falsify table $root[0] 0
falsify context $env->context[0].page 0
falsify event_ring $env->event_page (!$env->event_page*$mapped)
falsify flow_ring $flow->ring $mapped
falsify flow_buffer $flow->page[0] $mapped
falsify slices cpus[0]->owned (cpus[0]->owned^0x8000000000000000)
falsify holders holder_count[$mapped/64] (holder_count[$mapped/64]+1)
falsify free_map free_map[0] (free_map[0]^1)
printf "check at last: %ld\n", check_machine()
kill
