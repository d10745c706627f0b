// Just after an alert its case is still on its way: the page looks again until it is there.
setTimeout(() => location.reload(), 500);
